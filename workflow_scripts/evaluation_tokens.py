from pathlib import Path

from llm_pruner.data.sampling import encode_evaluation
from workflow_scripts.job import job

with job(snakemake):
    encode_evaluation(
        model=Path(snakemake.input.model),
        output=Path(snakemake.output[0]),
        trust_remote_code=snakemake.params.trust_remote_code,
        **snakemake.params.text,
    )

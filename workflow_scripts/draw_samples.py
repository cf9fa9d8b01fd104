from pathlib import Path

from llm_pruner.data.sampling import SampleSpec, draw_samples
from workflow_scripts.job import job

with job(snakemake):
    held_out = snakemake.input.get("held_out")
    draw_samples(
        SampleSpec(**snakemake.params.text),
        model=Path(snakemake.input.model),
        output=Path(snakemake.output[0]),
        held_out=Path(held_out) if held_out else None,
        trust_remote_code=snakemake.params.trust_remote_code,
    )

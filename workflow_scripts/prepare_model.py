from pathlib import Path

from llm_pruner.models.prepare import prepare_model
from workflow_scripts.job import job

with job(snakemake):
    prepare_model(
        snakemake.params.source,
        Path(snakemake.output.model),
        Path(snakemake.output.record),
        local=snakemake.params.local,
        revision=snakemake.params.revision,
        dtype=snakemake.params.dtype,
    )

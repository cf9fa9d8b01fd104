from pathlib import Path

from llm_pruner.models.prepare import prepare_model
from workflow_scripts.job import job

with job(snakemake):
    package = snakemake.input.get("package")
    prepare_model(
        snakemake.params.source,
        Path(snakemake.output.model),
        Path(snakemake.output.record),
        revision=snakemake.params.revision,
        gguf_file=snakemake.params.gguf_file,
        dtype=snakemake.params.dtype,
        package=Path(package) if package else None,
    )

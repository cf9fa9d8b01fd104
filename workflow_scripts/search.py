from pathlib import Path

from llm_pruner.search.split import search_split
from llm_pruner.system.runtime import Runtime
from llm_pruner.variants.variant import Variant
from workflow_scripts.job import job

with job(snakemake, device=snakemake.params.job["device"]):
    importance = snakemake.input.get("importance")
    search_split(
        Variant.from_dict(snakemake.params.variant),
        Path(snakemake.input.model),
        Path(snakemake.output.record),
        scores=Path(snakemake.input.scores),
        importance=Path(importance) if importance else None,
        held_out=Path(snakemake.input.held_out),
        runtime=Runtime(**snakemake.params.job, progress=True),
        **snakemake.params.search,
    )

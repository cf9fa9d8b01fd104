from pathlib import Path

from llm_pruner.variants.make import prune
from llm_pruner.variants.variant import Variant
from workflow_scripts.job import job

with job(snakemake, device=snakemake.params.job["device"]):
    sources = {
        role: Path(path)
        for role in ("scores", "importance", "search", "calibration")
        if (path := snakemake.input.get(role))
    }
    prune(
        Variant.from_dict(snakemake.params.variant),
        Path(snakemake.input.model),
        Path(snakemake.output.record).parent,
        progress=True,
        # checked when the base was prepared
        check=False,
        **sources,
        **snakemake.params.job,
    )

from pathlib import Path

from llm_pruner.evaluation.efficiency import measure_efficiency
from workflow_scripts.job import job

base = snakemake.input.get("base")

with job(snakemake, device=snakemake.params.device):
    measure_efficiency(
        Path(snakemake.input.model),
        Path(snakemake.output[0]),
        name=snakemake.wildcards.variant,
        device=snakemake.params.device,
        spread=snakemake.params.spread,
        base=Path(base) if base else None,
        **snakemake.params.efficiency,
    )

from pathlib import Path

from llm_pruner.pruning import prune
from llm_pruner.variants import Variant
from workflow_scripts.job import job

with job(snakemake):
    scores, calibration = snakemake.input.get("scores"), snakemake.input.get("calibration")
    prune(
        Variant(**snakemake.params.variant),
        Path(snakemake.input.model),
        Path(snakemake.output.record).parent,
        scores=Path(scores) if scores else None,
        calibration=Path(calibration) if calibration else None,
        progress=True,
        **snakemake.params.job,
    )

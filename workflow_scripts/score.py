from pathlib import Path

from llm_pruner.pruning import compute_scores
from workflow_scripts.job import job

with job(snakemake):
    calibration = snakemake.input.get("calibration")
    compute_scores(
        base=Path(snakemake.input.model),
        calibration=Path(calibration) if calibration else None,
        output=Path(snakemake.output[0]),
        name=snakemake.wildcards.score,
        progress=True,
        **snakemake.params.score,
        **snakemake.params.job,
    )

from pathlib import Path

from llm_pruner.variants.score import compute_scores
from llm_pruner.variants.variant import ScoreSpec
from workflow_scripts.job import job

with job(snakemake, device=snakemake.params.job["device"]):
    calibration = snakemake.input.get("calibration")
    compute_scores(
        ScoreSpec(**snakemake.params.score),
        Path(snakemake.input.model),
        Path(calibration) if calibration else None,
        Path(snakemake.output[0]),
        progress=True,
        # checked when the base was prepared
        check=False,
        **snakemake.params.job,
    )

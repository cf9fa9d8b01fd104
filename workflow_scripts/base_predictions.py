from pathlib import Path

from llm_pruner.evaluation.divergence import write_predictions
from workflow_scripts.job import job

with job(snakemake, device=snakemake.params.device):
    write_predictions(
        Path(snakemake.input.model),
        Path(snakemake.input.tokens),
        Path(snakemake.output[0]),
        options=snakemake.params.perplexity,
        device=snakemake.params.device,
        spread=snakemake.params.spread,
        progress=True,
    )

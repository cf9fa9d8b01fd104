from pathlib import Path

from llm_pruner.evaluation.quality import evaluate_quality
from workflow_scripts.job import job

with job(snakemake, device=snakemake.params.device):
    tasks = snakemake.input.get("tasks")
    evaluate_quality(
        Path(snakemake.input.model),
        Path(snakemake.input.tokens),
        predictions=Path(snakemake.input.predictions),
        name=snakemake.wildcards.variant,
        perplexity_output=Path(snakemake.output.perplexity),
        zero_shot_output=Path(snakemake.output.zero_shot),
        continuations_output=Path(snakemake.output.continuations),
        tasks=snakemake.params.tasks,
        task_folder=Path(tasks) if tasks else None,
        perplexity_options=snakemake.params.perplexity,
        zero_shot_options=snakemake.params.zero_shot,
        continuations_options=snakemake.params.continuations,
        device=snakemake.params.device,
        spread=snakemake.params.spread,
        progress=True,
    )

from pathlib import Path

from llm_pruner.encoders.options import PruningOptions, TaskOptions
from workflow_scripts.job import job

with job(snakemake, device=snakemake.params.device):
    # imports torch, so only after the GPU is claimed
    from llm_pruner.encoders.prune import prune_classifier
    from llm_pruner.training.resume import clear_resume_point

    outputs = [Path(record).parent for record in snakemake.output.records]
    starts = snakemake.input.start or [None] * len(outputs)
    for seed, start, output in zip(snakemake.params.seeds, starts, outputs, strict=True):
        prune_classifier(
            Path(snakemake.input.teacher),
            output,
            TaskOptions(**snakemake.params.task),
            PruningOptions(**{**snakemake.params.options, "seed": seed}),
            student=Path(start) if start else None,
            name=snakemake.wildcards.row,
            device=snakemake.params.device,
            progress=True,
        )
    # only after all seeds: Snakemake deletes the outputs of a killed job, and each seed resumes from its resume point
    for output in outputs:
        clear_resume_point(output)

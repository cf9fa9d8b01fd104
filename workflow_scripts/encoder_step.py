from pathlib import Path

from llm_pruner.encoders.options import TaskOptions
from llm_pruner.encoders.steps.base import ClassifierInputs, classifier_step
from llm_pruner.system.runtime import Runtime
from workflow_scripts.job import job

with job(snakemake, device=snakemake.params.device):
    # imports torch, so only after the GPU is claimed
    from llm_pruner.training.resume import clear_resume_point

    step = classifier_step(snakemake.params.step)(**snakemake.params.options)
    teacher = snakemake.input.get("teacher")
    outputs = [Path(record).parent for record in snakemake.output.records]
    for seed, model, output in zip(snakemake.params.seeds, snakemake.input.models, outputs, strict=True):
        inputs = ClassifierInputs(
            Path(model),
            Path(teacher) if teacher else None,
            TaskOptions(**snakemake.params.task) if step.trains else None,
            snakemake.wildcards.row,
            seed,
            Runtime(snakemake.params.device, progress=True),
        )
        step.apply(inputs, output)
    # only after all seeds: Snakemake deletes the outputs of a killed job, and each seed resumes from its resume point
    for output in outputs:
        clear_resume_point(output)

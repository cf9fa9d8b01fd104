from pathlib import Path

from llm_pruner.encoders.options import TaskOptions
from llm_pruner.encoders.steps.base import ClassifierInputs, classifier_step
from workflow_scripts.job import job

with job(snakemake, device=snakemake.params.device):
    # torch comes with this, and the GPU is claimed first
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
            device=snakemake.params.device,
            progress=True,
        )
        step.apply(inputs, output)
    # only now: what a killed job wrote is removed before it runs again, and every seed goes on from its checkpoint
    for output in outputs:
        clear_resume_point(output)

from pathlib import Path

from llm_pruner.encoders.options import TaskOptions, TeacherOptions
from workflow_scripts.job import job

with job(snakemake, device=snakemake.params.device):
    # imports torch, so only after the GPU is claimed
    from llm_pruner.encoders.teacher import train_teacher
    from llm_pruner.training.resume import clear_resume_point

    output = Path(snakemake.output.record).parent
    train_teacher(
        output,
        TaskOptions(**snakemake.params.task),
        TeacherOptions(**snakemake.params.options),
        package=Path(package) if (package := snakemake.params.package) else None,
        device=snakemake.params.device,
        progress=True,
    )
    clear_resume_point(output)

from pathlib import Path

from llm_pruner.encoders.options import TaskOptions, TeacherOptions
from llm_pruner.encoders.runs import clear_checkpoint
from llm_pruner.encoders.teacher import train_teacher
from workflow_scripts.job import job

with job(snakemake):
    output = Path(snakemake.output.record).parent
    train_teacher(
        output,
        TaskOptions(**snakemake.params.task),
        TeacherOptions(**snakemake.params.options),
        device=snakemake.params.device,
        progress=True,
    )
    clear_checkpoint(output)

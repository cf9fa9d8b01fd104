from pathlib import Path

from llm_pruner.data.builtin.tasks import write_tasks
from workflow_scripts.job import job

with job(snakemake):
    write_tasks(Path(snakemake.output[0]), items=snakemake.params.questions, seed=snakemake.params.seed)

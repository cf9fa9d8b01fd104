from pathlib import Path

from workflow_scripts.job import job

from llm_pruner.builtin.tasks import write_tasks

with job(snakemake):
    write_tasks(Path(snakemake.output[0]), items=snakemake.params.questions, seed=snakemake.params.seed)

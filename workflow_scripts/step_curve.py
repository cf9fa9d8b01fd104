from pathlib import Path

from llm_pruner.report.curves import plot_step_curve
from llm_pruner.system.files import read_json
from workflow_scripts.job import job

with job(snakemake):
    plot_step_curve(read_json(Path(snakemake.input[0])), Path(snakemake.output[0]))

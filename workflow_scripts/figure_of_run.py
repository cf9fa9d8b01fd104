from pathlib import Path

from llm_pruner.report.canvas import draw_with
from llm_pruner.report.table import read_results
from workflow_scripts.job import job

with job(snakemake):
    models = [Path(record).parent for record in snakemake.input.records]
    results = read_results(models, scores=map(Path, snakemake.input.scores), of_run=True)
    draw_with(snakemake.params.module, results, Path(snakemake.output[0]))

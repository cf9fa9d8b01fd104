from pathlib import Path

from llm_pruner.report.page.write import write_page
from llm_pruner.report.table import read_results
from workflow_scripts.job import job

with job(snakemake):
    records = [*snakemake.input.records, *snakemake.input.get("again", ())]
    results = read_results([Path(record).parent for record in records], of_run=True)
    write_page(results, Path(snakemake.output[0]))

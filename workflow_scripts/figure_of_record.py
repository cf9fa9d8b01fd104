from importlib import import_module
from pathlib import Path

from llm_pruner.system.files import read_json
from workflow_scripts.job import job

with job(snakemake):
    import_module(snakemake.params.module).draw(read_json(Path(snakemake.input.record)), Path(snakemake.output[0]))

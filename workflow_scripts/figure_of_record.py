from importlib import import_module
from pathlib import Path

from workflow_scripts.job import job

with job(snakemake):
    figure = import_module(snakemake.params.module)
    figure.draw(figure.read(snakemake.input.record), Path(snakemake.output[0]))

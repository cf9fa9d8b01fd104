from importlib import import_module
from pathlib import Path

from llm_pruner.report.canvas import draw_with
from llm_pruner.system.errors import DataError
from workflow_scripts.job import job

with job(snakemake):
    figure = import_module(snakemake.params.module)
    record = figure.read(snakemake.input.record)
    drawn = snakemake.wildcards.get("variant")
    if drawn and record.variant != drawn:
        raise DataError(
            f"{snakemake.input.record}: variant: '{record.variant}', not '{drawn}'; delete it and run again to make it "
            "anew"
        )
    draw_with(snakemake.params.module, record, Path(snakemake.output[0]))

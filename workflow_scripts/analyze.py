from pathlib import Path

from llm_pruner.analysis.comparison import write_analysis
from llm_pruner.system.files import read_json
from workflow_scripts.job import job

with job(snakemake):
    write_analysis(
        snakemake.input.base,
        snakemake.input.model,
        snakemake.input.get("plan") or None,
        Path(snakemake.output.comparison).parent,
        snakemake.wildcards.variant,
        original=read_json(snakemake.input.analysis),
    )

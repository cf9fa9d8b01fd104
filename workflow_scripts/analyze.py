from pathlib import Path

from llm_pruner.analysis.comparison import write_analysis
from llm_pruner.analysis.records import ModelStructure
from workflow_scripts.job import job

with job(snakemake):
    write_analysis(
        snakemake.input.base,
        snakemake.input.model,
        snakemake.input.get("plan") or None,
        Path(snakemake.output.comparison).parent,
        snakemake.wildcards.variant,
        original=ModelStructure.read(snakemake.input.analysis),
    )

from pathlib import Path

from llm_pruner.derived import quantize_variant
from llm_pruner.variants import Variant
from workflow_scripts.job import job

with job(snakemake):
    quantize_variant(
        Variant.from_dict(snakemake.params.variant),
        Path(snakemake.input.record).parent,
        Path(snakemake.output.record).parent,
    )

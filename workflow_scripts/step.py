from pathlib import Path

from llm_pruner.system.runtime import Runtime
from llm_pruner.variants.records import PruningRecord
from llm_pruner.variants.step import take_step
from llm_pruner.variants.variant import Variant
from workflow_scripts.job import job

with job(snakemake, device=snakemake.params.device):
    take_step(
        Variant.from_dict(snakemake.params.variant),
        Path(snakemake.input.parent),
        PruningRecord.read(snakemake.input.record),
        Path(snakemake.output.record).parent,
        files={need: Path(snakemake.input[need]) for need in snakemake.params.needs},
        runtime=Runtime(snakemake.params.device, progress=True),
    )

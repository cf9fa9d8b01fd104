from pathlib import Path

from llm_pruner.derived import heal_variant
from llm_pruner.system.files import read_json
from llm_pruner.variants.variant import Variant
from workflow_scripts.job import job

with job(snakemake, device=snakemake.params.device):
    heal_variant(
        Variant.from_dict(snakemake.params.variant),
        Path(snakemake.input.parent),
        read_json(Path(snakemake.input.record)),
        Path(snakemake.output.record).parent,
        tokens=Path(snakemake.input.tokens),
        held_out=Path(snakemake.input.held_out),
        teacher=Path(snakemake.input.teacher),
        device=snakemake.params.device,
        progress=True,
    )

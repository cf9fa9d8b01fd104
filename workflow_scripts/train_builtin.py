from pathlib import Path

from llm_pruner.data.builtin.options import BuiltinModel
from llm_pruner.system.runtime import Runtime
from workflow_scripts.job import job

with job(snakemake):
    from llm_pruner.training.builtin_model import train_builtin

    train_builtin(
        Path(snakemake.output.model),
        BuiltinModel(**snakemake.params.model),
        seed=snakemake.params.seed,
        record=Path(snakemake.output.record),
        runtime=Runtime("cpu", progress=True),
    )

from pathlib import Path

from workflow_scripts.job import job

from llm_pruner.builtin.training import BuiltinModel, train_builtin

with job(snakemake, terminal=True):
    train_builtin(
        Path(snakemake.output.model),
        BuiltinModel(**snakemake.params.model),
        seed=snakemake.params.seed,
        figure=Path(snakemake.output.figure),
        record=Path(snakemake.output.record),
    )

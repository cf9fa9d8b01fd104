from pathlib import Path

from llm_pruner.encoders.options import TaskOptions
from workflow_scripts.job import job

with job(snakemake, device=snakemake.params.device):
    # imports torch, so only after the GPU is claimed
    from llm_pruner.encoders.report import final_report

    final_report(
        [Path(record).parent for record in snakemake.input.runs],
        Path(snakemake.output.report),
        TaskOptions(**snakemake.params.task),
        device=snakemake.params.device,
        progress=True,
        **snakemake.params.timing,
    )

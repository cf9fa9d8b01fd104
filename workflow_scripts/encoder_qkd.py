from pathlib import Path

from llm_pruner.encoders.options import QATOptions, QuantizationOptions, TaskOptions
from workflow_scripts.job import job

with job(snakemake, device=snakemake.params.device):
    # torch comes with these, and the GPU is claimed first
    from llm_pruner.encoders.quantize import train_quantized
    from llm_pruner.training.resume import clear_resume_point

    outputs = [Path(record).parent for record in snakemake.output.records]
    for seed, model, output in zip(snakemake.params.seeds, snakemake.input.models, outputs, strict=True):
        train_quantized(
            Path(snakemake.input.teacher),
            Path(model),
            output,
            TaskOptions(**snakemake.params.task),
            QATOptions(**{**snakemake.params.options, "seed": seed}),
            QuantizationOptions(**snakemake.params.quantization),
            name=snakemake.wildcards.row,
            device=snakemake.params.device,
            progress=True,
        )
    # only now: what a killed job wrote is removed before it runs again, and every seed goes on from its checkpoint
    for output in outputs:
        clear_resume_point(output)

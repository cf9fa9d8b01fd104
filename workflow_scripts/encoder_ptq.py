from pathlib import Path

from llm_pruner.encoders.options import QuantizationOptions
from workflow_scripts.job import job

with job(snakemake):
    # torch comes with these, and the GPU is claimed first
    from llm_pruner.encoders.quantize import quantize_classifier

    for seed, model, record in zip(
        snakemake.params.seeds, snakemake.input.models, snakemake.output.records, strict=True
    ):
        quantize_classifier(
            Path(model),
            Path(record).parent,
            QuantizationOptions(**snakemake.params.quantization),
            name=snakemake.wildcards.row,
            seed=seed,
        )

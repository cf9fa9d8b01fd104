from llm_pruner.analysis.structure import analyze_model
from workflow_scripts.job import job

with job(snakemake):
    analyze_model(snakemake.input.model, "Dense").write(snakemake.output[0])

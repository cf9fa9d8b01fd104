from llm_pruner.analysis.structure import analyze_model
from llm_pruner.system.files import write_json
from workflow_scripts.job import job

with job(snakemake):
    write_json(snakemake.output[0], analyze_model(snakemake.input.model, "Dense"))

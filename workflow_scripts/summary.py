from pathlib import Path

from llm_pruner.analysis.summary import write_summary
from llm_pruner.encoders.records.report import FinalReport
from llm_pruner.report.encoders import encoder_runs_table, encoders_table
from llm_pruner.report.recommendation import recommendation_table
from llm_pruner.report.table import read_results, summary_table, write_csv, write_markdown
from llm_pruner.report.workbook import write_workbook
from workflow_scripts.job import job

with job(snakemake):
    output = snakemake.output
    models = [Path(record).parent for record in snakemake.input.records]
    results = read_results(
        [*models, *(Path(record).parent for record in snakemake.input.get("again", ()))], of_run=True
    )
    more = []
    if report := snakemake.input.get("encoders"):
        classifiers = FinalReport.read(report)
        more = [encoders_table(classifiers), encoder_runs_table(classifiers)]
    write_workbook(results, output.workbook, more)
    write_csv(summary_table(results), output.csv)
    write_markdown(summary_table(results), output.markdown, [recommendation_table(results)])
    write_summary(models, Path(output.structures).parent)

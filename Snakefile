from snakemake.utils import min_version

min_version("9.19")


configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/model.smk"
include: "rules/scores.smk"
include: "rules/prune.smk"
include: "rules/steps.smk"
include: "rules/analysis.smk"
include: "rules/evaluation.smk"
include: "rules/encoders_common.smk"
include: "rules/encoders.smk"
include: "rules/summary.smk"


report: "report/workflow.rst"


onstart:
    # For a rate of submissions, which only a queue needs, the scheduler looks again every second for each job that has
    # ever finished: a sixth of a core after a hundred jobs, and a second at the end of every run.
    if not on_cluster():
        workflow.scheduler.job_rate_limiter = None


rule all:
    default_target: True
    input:
        rules.summary.output,

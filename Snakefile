from snakemake.utils import min_version

min_version("9.19")


include: "rules/configuration.smk"


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
include: "rules/figures.smk"
include: "rules/summary.smk"
include: "rules/everything.smk"


report: "report/workflow.rst"


onstart:
    if not snakemake_private.on_cluster(workflow):
        snakemake_private.submit_at_once(workflow)


onsuccess:
    show_results()


rule all:
    default_target: True
    input:
        EVERYTHING,


# The second track alone.
rule classifiers:
    input:
        CLASSIFIERS,

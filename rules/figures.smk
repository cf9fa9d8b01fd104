# Figures, with one small rule each, drawn from the JSON files of other jobs.
SHOWN = {
    RUN: [{}],
    "base": [{}] if CONFIG.model.kind == "builtin" else [],
    "healed": [{"variant": variant} for variant in TRAINED],
    "searched": [{"variant": variant} for variant in SEARCHED if variant in VARIANTS],
    "teacher": [{}] if ENCODERS.rows else [],
    "classifier": [{"row": row, "seed": seed} for row in ENCODER_TRAINED for seed in ENCODERS.seeds],
    "classifiers": [{}] if ENCODERS.rows else [],
}
FIGURE_FILES = {
    name: [figure.output.format(**wildcards) for wildcards in SHOWN[figure.shows]] for name, figure in FIGURES.items()
}


def figure_in_report(figure):
    """The figure's file, with its place in Snakemake's report."""
    caption = f"../report/{figure.caption}.rst"
    return report(figure.output, caption=caption, category=figure.category, labels={"figure": figure.label})


def figure_log(figure):
    return f"logs/figures/{figure.output.removeprefix('results/').removeprefix('figures/').removesuffix('.png')}.log"


# two loops, one for each script: a rule reads the script's name when a job runs, after the loop
for name, figure in FIGURES.items():
    if figure.shows == RUN:

        rule:
            name:
                f"figure_{name}"
            input:
                **MEASURED,
                scores=expand("resources/scores/{score}.json", score=[name for name in SCORES if AT not in name]),
            output:
                figure_in_report(figure),
            log:
                figure_log(figure),
            # too small for a cluster's queue
            localrule: True
            conda:
                "../envs/tables.yaml"
            resources:
                mem_mb=1_000,
                runtime=30,
            params:
                module=figure.module,
                variants=list(VARIANTS),
                code=code("figure_of_run.py", figure.module),
            script:
                "../workflow_scripts/figure_of_run.py"


for name, figure in FIGURES.items():
    if figure.shows != RUN:

        rule:
            name:
                f"figure_{name}"
            input:
                record=RECORDS[figure.shows],
            output:
                figure_in_report(figure),
            log:
                figure_log(figure),
            # too small for a cluster's queue
            localrule: True
            conda:
                "../envs/tables.yaml"
            resources:
                mem_mb=1_000,
                runtime=30,
            params:
                module=figure.module,
                code=code("figure_of_record.py", figure.module),
            script:
                "../workflow_scripts/figure_of_record.py"

# The figures people look at: one small rule each, from what other jobs left as JSON.
SHOWN = {
    RUN: [{}],
    "base": [{}] if CONFIG.model.kind == "builtin" else [],
    "healed": [{"variant": variant} for variant in TRAINED],
    "searched": [{"variant": variant} for variant in SEARCHED],
    "teacher": [{}] if ENCODERS.rows else [],
    "classifier": [
        {"row": row, "seed": seed} for row in ENCODER_RUNS if not row.endswith("+ptq") for seed in ENCODERS.seeds
    ],
    "classifiers": [{}] if ENCODERS.rows else [],
}
FIGURE_FILES = {
    name: [figure.output.format(**wildcards) for wildcards in SHOWN[figure.shows]] for name, figure in FIGURES.items()
}


for name, figure in FIGURES.items():

    rule:
        name:
            f"figure_{name}"
        input:
            **(
                dict(MEASURED, scores=expand("resources/scores/{score}.json", score=SCORES))
                if figure.shows == RUN
                else dict(record=RECORDS[figure.shows])
            ),
        output:
            report(
                figure.output,
                caption=f"../report/{figure.caption}.rst",
                category=figure.category,
                labels={"figure": figure.label},
            ),
        log:
            f"logs/figures/{figure.output.removesuffix('.png')}.log",
        # too small for a cluster's queue
        localrule: True
        conda:
            "../envs/tables.yaml"
        resources:
            mem_mb=1_000,
            runtime=30,
        params:
            module=figure.module,
            code=code(f"figure_of_{'run' if figure.shows == RUN else 'record'}.py", figure.module),
        script:
            f"../workflow_scripts/figure_of_{'run' if figure.shows == RUN else 'record'}.py"

# Tables for people.
rule summary:
    input:
        **MEASURED,
        **MEASURED_AGAIN,
        encoders="results/final_report.json" if CONFIG.encoders.rows else [],
        # not read by the job, but a run that makes the tables makes the figures too
        figures=list(FIGURE_FILES.values()),
    output:
        workbook=report(
            "results/summary.xlsx",
            caption="../report/summary.rst",
            category="Tables",
            labels={"table": "Summary workbook"},
        ),
        csv="results/summary.csv",
        markdown="results/summary.md",
        structures="results/models_structure_summary.json",
        structures_text=report(
            "results/models_structure_summary.txt",
            caption="../report/structures.rst",
            category="Tables",
            labels={"table": "Structures"},
        ),
    log:
        "logs/summary.log",
    benchmark:
        "logs/benchmarks/summary.tsv"
    # too small for a cluster's queue
    localrule: True
    conda:
        "../envs/tables.yaml"
    resources:
        mem_mb=1_000,
        runtime=30,
    params:
        variants=list(MODELS_MADE),
        code=code("summary.py"),
    script:
        "../workflow_scripts/summary.py"


# The same results as a page for a browser.
rule page:
    input:
        **MEASURED,
        **MEASURED_AGAIN,
        continuations=expand("baselines/{variant}/evaluation/continuations.json", variant=VARIANTS),
    output:
        report(
            "results/index.html",
            caption="../report/page.rst",
            category="Tables",
            labels={"table": "Interactive page"},
        ),
    log:
        "logs/page.log",
    # too small for a cluster's queue
    localrule: True
    conda:
        "../envs/tables.yaml"
    resources:
        mem_mb=1_000,
        runtime=30,
    params:
        variants=list(VARIANTS),
        code=code("page.py"),
        # parts of the page, which a digest of Python sources does not cover
        files=[sha256(file) for file in page_files()],
    script:
        "../workflow_scripts/page.py"

# The tables people read.
rule summary:
    input:
        **MEASURED,
        **MEASURED_AGAIN,
        encoders="results/final_report.json" if CONFIG.encoders.rows else [],
        # not read, but whoever asks for the tables gets the figures with them
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


# The same to look through in a browser.
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
        # what it is put together from: no source that a digest of Python follows
        files=[sha256(file) for file in page_files()],
    script:
        "../workflow_scripts/page.py"

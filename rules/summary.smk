# The tables people read.
rule summary:
    input:
        **MEASURED,
        again=[file for files in MEASURED_AGAIN.values() for file in files],
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

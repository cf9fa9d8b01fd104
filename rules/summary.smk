# The tables and figures people read.
rule summary:
    input:
        records=expand("baselines/{variant}/pruning.json", variant=VARIANTS),
        comparisons=expand("baselines/{variant}/analysis/model_comparison.json", variant=VARIANTS),
        perplexity=expand("baselines/{variant}/evaluation/perplexity.json", variant=VARIANTS),
        zero_shot=expand("baselines/{variant}/evaluation/zero_shot.json", variant=VARIANTS),
        efficiency=expand("baselines/{variant}/evaluation/efficiency.json", variant=VARIANTS),
        scores=expand("resources/scores/{score}.json", score=SCORES),
        # not read, but part of what a run shows
        curves=expand("results/figures/healing_{variant}.png", variant=TRAINED),
        encoders="results/final_report.json" if CONFIG.encoders.rows else [],
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
        quality=report(
            "results/figures/quality_against_size.png",
            caption="../report/quality.rst",
            category="Comparison",
            labels={"figure": "Perplexity against size"},
        ),
        accuracy=report(
            "results/figures/accuracy_against_size.png",
            caption="../report/quality.rst",
            category="Comparison",
            labels={"figure": "Zero-shot accuracy against size"},
        ),
        reduction=report(
            "results/figures/layer_reduction.png",
            caption="../report/reduction.rst",
            category="Comparison",
            labels={"figure": "What went from each layer"},
        ),
        layer_scores=report(
            "results/figures/layer_scores.png",
            caption="../report/layer_scores.rst",
            category="Comparison",
            labels={"figure": "Scores by layer"},
        ),
        layer_rates=report(
            "results/figures/layer_rates.png",
            caption="../report/layer_rates.rst",
            category="Decisions",
            labels={"figure": "Importance and rate by layer"},
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
        variants=list(VARIANTS),
        code=code("summary.py"),
    script:
        "../workflow_scripts/summary.py"

# Structure, read from safetensors headers: no torch.
rule analyze_base:
    input:
        model="resources/model",
    output:
        "resources/model_analysis.json",
    log:
        "logs/analyze/base.log",
    # too small for a cluster's queue
    localrule: True
    conda:
        "../envs/tables.yaml"
    resources:
        mem_mb=1_000,
        runtime=30,
    params:
        code=code("analyze_base.py"),
    script:
        "../workflow_scripts/analyze_base.py"


rule analyze:
    input:
        model="baselines/{variant}/model",
        base="resources/model",
        analysis=rules.analyze_base.output[0],
        plan=lambda wildcards: plan_file(wildcards.variant),
    output:
        structure="baselines/{variant}/analysis/model_structure.json",
        comparison="baselines/{variant}/analysis/model_comparison.json",
        original="baselines/{variant}/analysis/original_model_analysis.json",
        pruned="baselines/{variant}/analysis/pruned_model_analysis.json",
        by_layer="baselines/{variant}/analysis/pruning_summary_by_layer.txt",
    log:
        "logs/analyze/{variant}.log",
    benchmark:
        "logs/benchmarks/analyze/{variant}.tsv"
    conda:
        "../envs/tables.yaml"
    resources:
        mem_mb=1_000,
        runtime=30,
    params:
        code=code("analyze.py"),
    script:
        "../workflow_scripts/analyze.py"

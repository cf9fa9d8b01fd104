# Finished models stored in 4 bits.
rule quantize:
    input:
        parent=lambda wildcards: f"baselines/{VARIANTS[wildcards.variant].parent}/model",
        record=lambda wildcards: f"baselines/{VARIANTS[wildcards.variant].parent}/pruning.json",
    output:
        model=directory("baselines/{variant}/model"),
        record="baselines/{variant}/pruning.json",
    log:
        "logs/quantize/{variant}.log",
    benchmark:
        "logs/benchmarks/quantize/{variant}.tsv"
    wildcard_constraints:
        variant=one_of(QUANTIZED),
    conda:
        "../envs/quantization.yaml"
    threads: NEEDS.threads
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
    params:
        variant=lambda wildcards: VARIANTS[wildcards.variant].to_dict(),
        code=code("quantize.py"),
    script:
        "../workflow_scripts/quantize.py"

# Models made from pruned ones: training that wins back quality. The result is again an ordinary folder.
rule heal:
    input:
        parent=lambda wildcards: f"baselines/{VARIANTS[wildcards.variant].parent}/model",
        record=lambda wildcards: f"baselines/{VARIANTS[wildcards.variant].parent}/pruning.json",
        teacher="resources/model",
        tokens="resources/healing.safetensors",
        held_out="resources/held_out.safetensors",
    output:
        model=directory("baselines/{variant}/model"),
        record="baselines/{variant}/pruning.json",
        healing="baselines/{variant}/healing.json",
    log:
        "logs/heal/{variant}.log",
    benchmark:
        "logs/benchmarks/heal/{variant}.tsv"
    wildcard_constraints:
        variant=one_of(HEALED),
    conda:
        "../envs/healing.yaml"
    threads: NEEDS.threads
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
        gpu=gpus(),
    params:
        variant=lambda wildcards: VARIANTS[wildcards.variant].to_dict(),
        device=CONFIG.model.device,
        code=code("heal.py"),
    script:
        "../workflow_scripts/heal.py"

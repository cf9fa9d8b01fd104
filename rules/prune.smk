# The pruned models. One script; what differs is whether a plan is made from scores or decided on the way through.
rule prune:
    input:
        model="resources/model",
        scores=lambda wildcards: f"resources/scores/{VARIANTS[wildcards.variant].score}.json",
    output:
        model=directory("baselines/{variant}/model"),
        record="baselines/{variant}/pruning.json",
        plan="baselines/{variant}/plan.json",
    log:
        "logs/prune/{variant}.log",
    benchmark:
        "logs/benchmarks/prune/{variant}.tsv"
    wildcard_constraints:
        variant="|".join(PLANNED) or "none",
    conda:
        "../envs/torch.yaml"
    threads: torch_threads()
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
    params:
        variant=lambda wildcards: VARIANTS[wildcards.variant].to_dict(),
        job=dict(device=CONFIG.model.device, batch_size=CONFIG.calibration.batch_size),
        code=lambda wildcards: method_code(
            "prune.py", VARIANTS[wildcards.variant].implementation, VARIANTS[wildcards.variant].family
        ),
    script:
        "../workflow_scripts/prune.py"


use rule prune as prune_directly with:
    input:
        model="resources/model",
        calibration=lambda wildcards: (
            "resources/calibration.safetensors" if VARIANTS[wildcards.variant].calibrated else []
        ),
    output:
        model=directory("baselines/{variant}/model"),
        record="baselines/{variant}/pruning.json",
    wildcard_constraints:
        variant="|".join(DIRECT),
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
        gpu=lambda wildcards: gpus() if VARIANTS[wildcards.variant].calibrated else 0,

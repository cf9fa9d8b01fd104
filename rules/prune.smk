# The attention : MLP split with the lowest held-out perplexity, tried in memory.
rule search:
    input:
        model="resources/model",
        scores=lambda wildcards: scores_file(MODELS_MADE[wildcards.variant].score),
        importance=lambda wildcards: scores_file(MODELS_MADE[wildcards.variant].importance),
        held_out="resources/held_out.safetensors",
    output:
        record="resources/search/{variant}.json",
    log:
        "logs/search/{variant}.log",
    benchmark:
        "logs/benchmarks/search/{variant}.tsv"
    wildcard_constraints:
        variant=one_of(SEARCHED),
    conda:
        "../envs/torch.yaml"
    threads: NEEDS.threads
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
        gpu=gpus(),
    params:
        variant=lambda wildcards: MODELS_MADE[wildcards.variant].to_dict(),
        search=CONFIG.search.model_dump(),
        job=dict(device=CONFIG.model.device, batch_size=CONFIG.calibration.batch_size),
        code=lambda wildcards: code(
            "search.py", ALLOCATION.module(MODELS_MADE[wildcards.variant].options["allocation"])
        ),
    script:
        "../workflow_scripts/search.py"


# The pruned models. Both rules use one script: the first makes a plan from scores, the second decides while it prunes.
rule prune:
    input:
        model="resources/model",
        scores=lambda wildcards: scores_file(MODELS_MADE[wildcards.variant].score),
        importance=lambda wildcards: scores_file(MODELS_MADE[wildcards.variant].importance),
        search=lambda wildcards: "resources/search/{variant}.json" if wildcards.variant in SEARCHED else [],
        calibration=samples_wanted,
    output:
        model=directory("baselines/{variant}/model"),
        record="baselines/{variant}/pruning.json",
        plan="baselines/{variant}/plan.json",
    log:
        "logs/prune/{variant}.log",
    benchmark:
        "logs/benchmarks/prune/{variant}.tsv"
    wildcard_constraints:
        variant=one_of(PLANNED),
    conda:
        "../envs/torch.yaml"
    threads: NEEDS.threads
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
        gpu=lambda wildcards: gpus(int(MODELS_MADE[wildcards.variant].samples_wanted)),
    params:
        variant=lambda wildcards: MODELS_MADE[wildcards.variant].to_dict(),
        job=dict(device=CONFIG.model.device, batch_size=CONFIG.calibration.batch_size),
        code=lambda wildcards: method_code(
            "prune.py",
            MODELS_MADE[wildcards.variant].implementation,
            *job_modules(MODELS_MADE[wildcards.variant].mechanism, MODELS_MADE[wildcards.variant].options),
        ),
    script:
        "../workflow_scripts/prune.py"


use rule prune as prune_directly with:
    input:
        model="resources/model",
        importance=lambda wildcards: scores_file(MODELS_MADE[wildcards.variant].importance),
        calibration=samples_wanted,
    output:
        model=directory("baselines/{variant}/model"),
        record="baselines/{variant}/pruning.json",
    wildcard_constraints:
        variant=one_of(DIRECT),
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
        gpu=gpus(),

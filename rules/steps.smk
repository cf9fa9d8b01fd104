# Models that a step, behind the plus, makes from finished models. The result is again an ordinary folder.
rule step:
    input:
        unpack(step_inputs),
    output:
        model=directory("baselines/{variant}/model"),
        record="baselines/{variant}/pruning.json",
        step="baselines/{variant}/step.json",
    log:
        "logs/step/{variant}.log",
    benchmark:
        "logs/benchmarks/step/{variant}.tsv"
    wildcard_constraints:
        variant=one_of(STEPPED),
    conda:
        "../envs/steps.yaml"
    threads: NEEDS.threads
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
        gpu=lambda wildcards: gpus() if STEPPED[wildcards.variant].gpu else 0,
    params:
        variant=lambda wildcards: MODELS_MADE[wildcards.variant].to_dict(),
        needs=lambda wildcards: list(STEPPED[wildcards.variant].needs),
        device=CONFIG.model.device,
        code=step_code,
    script:
        "../workflow_scripts/step.py"

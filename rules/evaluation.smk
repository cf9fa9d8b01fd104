# Quality and speed of every model. Perplexity, zero-shot and continuations share one loaded model; timing runs alone.
PERPLEXITY = CONFIG.perplexity.model_dump(include={"window", "stride", "max_windows", "batch_size"})


rule evaluate:
    input:
        model="baselines/{variant}/model",
        tokens="resources/evaluation.safetensors",
        predictions="resources/predictions.safetensors",
        tasks="resources/tasks" if CONFIG.makes_tasks else [],
    output:
        perplexity="baselines/{variant}/evaluation/perplexity.json",
        zero_shot="baselines/{variant}/evaluation/zero_shot.json",
        continuations="baselines/{variant}/evaluation/continuations.json",
    log:
        "logs/evaluate/{variant}.log",
    benchmark:
        "logs/benchmarks/evaluate/{variant}.tsv"
    conda:
        "../envs/evaluation.yaml"
    threads: NEEDS.threads
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
        gpu=gpus(CONFIG.jobs.gpus),
    params:
        perplexity=PERPLEXITY,
        tasks=list(CONFIG.tasks),
        zero_shot=dict(CONFIG.zero_shot.model_dump(include={"num_fewshot", "limit", "batch_size"}), seed=CONFIG.seed),
        continuations=CONFIG.continuations.resolved,
        device=CONFIG.model.device,
        spread=CONFIG.jobs.gpus > 1,
        code=code("evaluate.py"),
    script:
        "../workflow_scripts/evaluate.py"


# The dense model's predictions, for comparison with every model.
rule base_predictions:
    input:
        model="resources/model",
        tokens="resources/evaluation.safetensors",
    output:
        "resources/predictions.safetensors",
    log:
        "logs/base_predictions.log",
    benchmark:
        "logs/benchmarks/base_predictions.tsv"
    conda:
        "../envs/torch.yaml"
    threads: NEEDS.threads
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
        gpu=gpus(CONFIG.jobs.gpus),
    params:
        perplexity=PERPLEXITY,
        device=CONFIG.model.device,
        spread=CONFIG.jobs.gpus > 1,
        code=code("base_predictions.py"),
    script:
        "../workflow_scripts/base_predictions.py"


rule efficiency:
    input:
        model="baselines/{variant}/model",
        base=timed_beside,
    output:
        "baselines/{variant}/evaluation/efficiency.json",
    log:
        "logs/efficiency/{variant}.log",
    benchmark:
        "logs/benchmarks/efficiency/{variant}.tsv"
    conda:
        "../envs/torch.yaml"
    # all cores of the run, so that no other job runs during the measurement
    threads: all_cores()
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
        gpu=gpus(CONFIG.jobs.gpus),
    params:
        efficiency=CONFIG.efficiency.model_dump(exclude={"beside_base"}),
        device=CONFIG.model.device,
        spread=CONFIG.jobs.gpus > 1,
        code=code("efficiency.py"),
    script:
        "../workflow_scripts/efficiency.py"

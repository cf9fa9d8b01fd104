# The base model, and the tokens every method and every evaluation share.
if CONFIG.model.source == BUILTIN:

    rule train_builtin:
        output:
            model=directory("resources/model"),
            record="resources/model.json",
            figure=report(
                "results/figures/training.png",
                caption="../report/training.rst",
                category="Base model",
                labels={"figure": "Training loss"},
            ),
        log:
            "logs/model.log",
        benchmark:
            "logs/benchmarks/train_builtin.tsv"
        conda:
            "../envs/torch.yaml"
        threads: 2
        resources:
            mem_mb=memory_mb,
            runtime=minutes,
        params:
            model=CONFIG.model.builtin,
            seed=CONFIG.seed,
            code=code("train_builtin.py"),
        script:
            "../workflow_scripts/train_builtin.py"

else:

    rule prepare_model:
        output:
            model=directory("resources/model"),
            record="resources/model.json",
        log:
            "logs/model.log",
        benchmark:
            "logs/benchmarks/prepare_model.tsv"
        retries: 2
        conda:
            "../envs/torch.yaml"
        resources:
            mem_mb=memory_mb,
            runtime=minutes,
        params:
            source=CONFIG.model.source,
            local=CONFIG.model.is_local,
            revision=CONFIG.model.revision,
            dtype=CONFIG.model.dtype,
            code=code("prepare_model.py"),
        script:
            "../workflow_scripts/prepare_model.py"


rule builtin_tasks:
    output:
        directory("resources/tasks"),
    log:
        "logs/tasks.log",
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
    params:
        questions=CONFIG.zero_shot.items,
        seed=CONFIG.seed,
        code=code("builtin_tasks.py"),
    script:
        "../workflow_scripts/builtin_tasks.py"


rule calibration:
    input:
        model="resources/model",
        source=text_file(CONFIG.calibration),
    output:
        "resources/calibration.safetensors",
    log:
        "logs/calibration.log",
    benchmark:
        "logs/benchmarks/calibration.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
    params:
        text=dict(
            source=CONFIG.calibration.source,
            split=split_of(CONFIG.calibration, "calibration"),
            samples=CONFIG.calibration.samples,
            length=CONFIG.calibration.length,
            seed=CONFIG.calibration.seed,
        ),
        trust_remote_code=CONFIG.model.trust_remote_code,
        code=code("calibration.py"),
    script:
        "../workflow_scripts/calibration.py"


rule evaluation_tokens:
    input:
        model="resources/model",
        source=text_file(CONFIG.perplexity),
    output:
        "resources/evaluation.safetensors",
    log:
        "logs/evaluation_tokens.log",
    benchmark:
        "logs/benchmarks/evaluation_tokens.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
    params:
        text=dict(
            source=CONFIG.perplexity.source,
            split=split_of(CONFIG.perplexity, "evaluation"),
        ),
        trust_remote_code=CONFIG.model.trust_remote_code,
        code=code("evaluation_tokens.py"),
    script:
        "../workflow_scripts/evaluation_tokens.py"

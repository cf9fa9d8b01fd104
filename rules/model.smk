# The base model, and the tokens shared by all methods and evaluations.
rule fetch_package:
    output:
        directory("resources/packages/{package}"),
    log:
        "logs/fetch/{package}.log",
    benchmark:
        "logs/benchmarks/fetch_package/{package}.tsv"
    wildcard_constraints:
        package=one_of(PACKAGES),
    # first, so that a failed download is reported before other jobs run
    priority: 1
    # compute nodes of a cluster rarely reach a package index
    localrule: True
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=1_000,
        runtime=60,
    params:
        # the package's hash alone determines the model, so no digest of sources
        package=lambda wildcards: asdict(PACKAGES[wildcards.package]),
    script:
        "../workflow_scripts/fetch_package.py"


if CONFIG.model.kind == "builtin":

    rule train_builtin:
        output:
            model=directory("resources/model"),
            record="resources/model.json",
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
            model=CONFIG.model.builtin.model_dump(),
            seed=CONFIG.seed,
            code=code("train_builtin.py"),
        script:
            "../workflow_scripts/train_builtin.py"

else:

    rule prepare_model:
        input:
            package=ancient(package_folder(CONFIG.model.source)) if CONFIG.model.kind == "package" else [],
            gguf=str(gguf_path(CONFIG.model.source, CONFIG.model.gguf_file)) if CONFIG.model.kind == "gguf" else [],
        output:
            model=directory("resources/model"),
            record="resources/model.json",
        log:
            "logs/model.log",
        benchmark:
            "logs/benchmarks/prepare_model.tsv"
        retries: 2 if CONFIG.model.kind == "hub" else 0
        conda:
            "../envs/torch.yaml"
        resources:
            mem_mb=memory_mb,
            runtime=minutes,
        params:
            source=CONFIG.model.source,
            revision=CONFIG.model.revision,
            gguf_file=CONFIG.model.gguf_file,
            dtype=CONFIG.model.dtype,
            package=asdict(MODELS[CONFIG.model.source]) if CONFIG.model.kind == "package" else None,
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
        text=calibration_text(CONFIG.calibration.samples),
        trust_remote_code=CONFIG.model.trust_remote_code,
        code=code("draw_samples.py"),
    script:
        "../workflow_scripts/draw_samples.py"


# Samples of further seeds, for the spread between draws, without samples that are held out.
use rule calibration as calibration_again with:
    input:
        model="resources/model",
        source=text_file(CONFIG.calibration),
        held_out="resources/held_out.safetensors",
    output:
        f"resources/calibration{AT}{{seed}}.safetensors",
    log:
        f"logs/calibration{AT}{{seed}}.log",
    benchmark:
        f"logs/benchmarks/calibration{AT}{{seed}}.tsv"
    wildcard_constraints:
        seed=r"\d+",
    params:
        text=lambda wildcards: calibration_text(CONFIG.calibration.samples, seed=int(wildcards.seed)),
        trust_remote_code=CONFIG.model.trust_remote_code,
        code=code("draw_samples.py"),


# Held-out samples for decisions during a run, a split or the course of healing; never calibrated or evaluated on.
use rule calibration as held_out with:
    output:
        "resources/held_out.safetensors",
    log:
        "logs/held_out.log",
    benchmark:
        "logs/benchmarks/held_out.tsv"
    params:
        text=calibration_text(CONFIG.calibration.held_out, skip=CONFIG.calibration.samples),
        trust_remote_code=CONFIG.model.trust_remote_code,
        code=code("draw_samples.py"),


use rule calibration as healing_tokens with:
    input:
        model="resources/model",
        source=text_file(CONFIG.healing),
        held_out="resources/held_out.safetensors",
    output:
        "resources/healing.safetensors",
    log:
        "logs/healing_tokens.log",
    benchmark:
        "logs/benchmarks/healing_tokens.tsv"
    params:
        text=dict(
            source=CONFIG.healing.source,
            split=split_for(CONFIG.healing.source, CONFIG.healing.split, "healing"),
            samples=CONFIG.healing.samples,
            length=CONFIG.healing.length,
            seed=CONFIG.seed,
        ),
        trust_remote_code=CONFIG.model.trust_remote_code,
        code=code("draw_samples.py"),


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
            split=split_for(CONFIG.perplexity.source, CONFIG.perplexity.split, "evaluation"),
        ),
        trust_remote_code=CONFIG.model.trust_remote_code,
        code=code("evaluation_tokens.py"),
    script:
        "../workflow_scripts/evaluation_tokens.py"

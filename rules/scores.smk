# Evidence about the base model that does not depend on how much will go: once per method, for every amount.
rule score:
    input:
        model="resources/model",
        calibration=lambda wildcards: (calibration_file(wildcards.score) if SCORES[wildcards.score].calibrated else []),
    output:
        "resources/scores/{score}.json",
    log:
        "logs/scores/{score}.log",
    benchmark:
        "logs/benchmarks/score/{score}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: NEEDS.threads
    resources:
        mem_mb=memory_mb,
        runtime=minutes,
        gpu=gpus(),
    params:
        score=lambda wildcards: asdict(SCORES[wildcards.score]),
        job=dict(device=CONFIG.model.device, batch_size=CONFIG.calibration.batch_size),
        code=lambda wildcards: method_code(
            "score.py",
            SCORES[wildcards.score].implementation,
            SCORES[wildcards.score].job,
        ),
    script:
        "../workflow_scripts/score.py"

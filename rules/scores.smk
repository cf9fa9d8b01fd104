# Scores of the base model, which do not depend on the amount to remove: once for each method, for all amounts.
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

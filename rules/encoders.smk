# The second track: classifiers. Teacher, pruned students, few bits; nothing runs unless rows are listed.
rule encoder_teacher:
    input:
        data=encoder_data(),
        source=encoder_source(),
    output:
        model=directory("encoders/Teacher/model"),
        record="encoders/Teacher/record.json",
    log:
        "logs/encoders/Teacher.log",
    benchmark:
        "logs/benchmarks/encoder_teacher.tsv"
    conda:
        "../envs/quantization.yaml"
    threads: ENCODER_NEEDS.threads
    resources:
        mem_mb=encoder_memory,
        runtime=encoder_minutes,
        gpu=gpus(),
    params:
        task=ENCODERS.task.model_dump(mode="json"),
        options=ENCODERS.teacher.model_dump(mode="json"),
        package=package_folder(ENCODERS.teacher.package),
        device=CONFIG.model.device,
        code=code("encoder_teacher.py"),
    script:
        "../workflow_scripts/encoder_teacher.py"


rule encoder_prune:
    input:
        teacher="encoders/Teacher/model",
        start=encoder_start,
        data=encoder_data(),
    output:
        models=[directory(path) for path in encoder_runs("model")],
        records=encoder_runs("record.json"),
    log:
        "logs/encoders/{row}.log",
    benchmark:
        "logs/benchmarks/encoder_prune/{row}.tsv"
    wildcard_constraints:
        row=one_of(ENCODERS.rows),
    conda:
        "../envs/quantization.yaml"
    threads: ENCODER_NEEDS.threads
    resources:
        mem_mb=encoder_memory,
        runtime=encoder_minutes,
        gpu=gpus(),
    params:
        task=ENCODERS.task.model_dump(mode="json"),
        options=lambda wildcards: ENCODERS.row_options(wildcards.row).model_dump(mode="json", exclude={"start"}),
        seeds=ENCODERS.seeds,
        device=CONFIG.model.device,
        code=code("encoder_prune.py"),
    script:
        "../workflow_scripts/encoder_prune.py"


rule encoder_ptq:
    input:
        models=encoder_row,
    output:
        models=[directory(path) for path in encoder_runs("model")],
        records=encoder_runs("record.json"),
    log:
        "logs/encoders/{row}.log",
    benchmark:
        "logs/benchmarks/encoder_ptq/{row}.tsv"
    wildcard_constraints:
        row=one_of([f"{row}+ptq" for row in ENCODERS.ptq]),
    conda:
        "../envs/quantization.yaml"
    resources:
        mem_mb=encoder_memory,
        runtime=encoder_minutes,
    params:
        quantization=ENCODERS.quantization.model_dump(mode="json"),
        seeds=ENCODERS.seeds,
        code=code("encoder_ptq.py"),
    script:
        "../workflow_scripts/encoder_ptq.py"


rule encoder_qkd:
    input:
        teacher="encoders/Teacher/model",
        models=encoder_row,
        data=encoder_data(),
    output:
        models=[directory(path) for path in encoder_runs("model")],
        records=encoder_runs("record.json"),
    log:
        "logs/encoders/{row}.log",
    benchmark:
        "logs/benchmarks/encoder_qkd/{row}.tsv"
    wildcard_constraints:
        row=one_of([f"{row}+qkd" for row in ENCODERS.qkd]),
    conda:
        "../envs/quantization.yaml"
    threads: ENCODER_NEEDS.threads
    resources:
        mem_mb=encoder_memory,
        runtime=encoder_minutes,
        gpu=gpus(),
    params:
        task=ENCODERS.task.model_dump(mode="json"),
        options=ENCODERS.qat.model_dump(mode="json"),
        quantization=ENCODERS.quantization.model_dump(mode="json"),
        seeds=ENCODERS.seeds,
        device=CONFIG.model.device,
        code=code("encoder_qkd.py"),
    script:
        "../workflow_scripts/encoder_qkd.py"


rule encoder_report:
    input:
        runs=[
            "encoders/Teacher/record.json",
            *(path for row in ENCODER_RUNS for path in encoder_runs("record.json", row)),
        ],
        models=["encoders/Teacher/model", *(path for row in ENCODER_RUNS for path in encoder_runs("model", row))],
        data=encoder_data(),
    output:
        report="results/final_report.json",
    log:
        "logs/encoders/report.log",
    benchmark:
        "logs/benchmarks/encoder_report.tsv"
    conda:
        "../envs/quantization.yaml"
    # all cores of the run, so that nothing else shares them while the clock runs
    threads: all_cores()
    resources:
        mem_mb=encoder_memory,
        runtime=encoder_minutes,
        gpu=gpus(),
    params:
        task=ENCODERS.task.model_dump(mode="json"),
        timing=ENCODERS.timing.model_dump(),
        device=CONFIG.model.device,
        code=code("encoder_report.py"),
    script:
        "../workflow_scripts/encoder_report.py"

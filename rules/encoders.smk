# The second track, classifiers: teacher, pruned students, 4 or 8 bits. No rule runs unless encoders.rows lists rows.
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
        row=one_of(ENCODERS.pruned),
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


rule encoder_step:
    input:
        unpack(encoder_step_inputs),
    output:
        models=[directory(path) for path in encoder_runs("model")],
        records=encoder_runs("record.json"),
    log:
        "logs/encoders/{row}.log",
    benchmark:
        "logs/benchmarks/encoder_step/{row}.tsv"
    wildcard_constraints:
        row=one_of(ENCODERS.stepped),
    conda:
        "../envs/quantization.yaml"
    threads: lambda wildcards: ENCODER_NEEDS.threads if ENCODERS.stepped[wildcards.row].trains else 1
    resources:
        mem_mb=encoder_memory,
        runtime=encoder_minutes,
        gpu=lambda wildcards: gpus() if ENCODERS.stepped[wildcards.row].gpu else 0,
    params:
        step=lambda wildcards: encoder_step(wildcards.row),
        options=lambda wildcards: ENCODERS.step_options(wildcards.row).model_dump(mode="json"),
        task=lambda wildcards: ENCODERS.task.model_dump(mode="json") if ENCODERS.stepped[wildcards.row].trains else {},
        seeds=ENCODERS.seeds,
        device=CONFIG.model.device,
        code=lambda wildcards: code("encoder_step.py", module_of(encoder_step(wildcards.row))),
    script:
        "../workflow_scripts/encoder_step.py"


rule encoder_report:
    input:
        runs=[
            "encoders/Teacher/record.json",
            *(path for row in ENCODERS.rows for path in encoder_runs("record.json", row)),
        ],
        models=["encoders/Teacher/model", *(path for row in ENCODERS.rows for path in encoder_runs("model", row))],
        data=encoder_data(),
    output:
        report="results/final_report.json",
    log:
        "logs/encoders/report.log",
    benchmark:
        "logs/benchmarks/encoder_report.tsv"
    conda:
        "../envs/quantization.yaml"
    # all cores of the run, so that no other job disturbs the timing
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

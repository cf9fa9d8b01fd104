# Models made of finished ones, by the steps behind the plus. The result is again an ordinary folder.
STEPPED = {name: step_class(variant.step.implementation) for name, variant in VARIANTS.items() if variant.step}
TRAINED = [name for name, step in STEPPED.items() if "healing" in step.needs]
STEP_FILES = {
    "base": "resources/model",
    "calibration": "resources/calibration.safetensors",
    "healing": "resources/healing.safetensors",
    "held_out": "resources/held_out.safetensors",
}


def step_inputs(wildcards):
    """The model that a step starts from, and what else it reads."""
    parent = f"baselines/{VARIANTS[wildcards.variant].parent}"
    needed = {need: STEP_FILES[need] for need in STEPPED[wildcards.variant].needs}
    return {"parent": f"{parent}/model", "record": f"{parent}/pruning.json", **needed}


def step_code(wildcards):
    return code("step.py", VARIANTS[wildcards.variant].step.implementation.partition(":")[0])


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
        variant=lambda wildcards: VARIANTS[wildcards.variant].to_dict(),
        needs=lambda wildcards: list(STEPPED[wildcards.variant].needs),
        device=CONFIG.model.device,
        code=step_code,
    script:
        "../workflow_scripts/step.py"

"""Apply a step (healing, quantisation) to a finished variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from llm_pruner.mechanisms import get_mechanism
from llm_pruner.steps.base import Need, StepInputs, step_class
from llm_pruner.steps.records import StepFile, StepRecord
from llm_pruner.system.errors import ConfigError, DataError
from llm_pruner.system.provenance import Run
from llm_pruner.system.runtime import AUTO, Runtime
from llm_pruner.training.resume import RESUME_POINT, clear_resume_point
from llm_pruner.variants.records import PruningRecord
from llm_pruner.variants.variant import Variant


def take_step(
    variant: Variant,
    parent: Path,
    before: PruningRecord,
    output: Path,
    *,
    files: Mapping[Need, Path],
    runtime: Runtime = AUTO,
) -> PruningRecord:
    """Apply a variant's last step: write ``output/model/``, ``output/step.json`` and ``output/pruning.json``.

    A killed training continues from its last check, and ends as without the interruption.

    Args:
        variant: the variant to make, such as ``GQA_2000+lora``.
        parent: folder of the parent model.
        before: ``pruning.json`` of the parent.
        output: folder of the variant.
        files: the files that the step ``needs``, and maybe others.
        runtime: device and batch size. A step that cannot use a GPU runs on the CPU in any case.

    Returns:
        ``pruning.json``: the parent's record, with this step at the end of ``steps``.

    Raises:
        DataError: if ``before`` is another model's record.
        ConfigError: if a file that the step needs is not given.
        CheckpointError: if the parent cannot be read, or the step fails.
    """
    assert variant.step
    if before.variant != variant.parent:
        raise DataError(
            f"{parent.with_name('pruning.json')}: variant: '{before.variant}', but {variant.name} is made from "
            f"'{variant.parent}'; delete it and run again to make it anew"
        )
    cls = step_class(variant.step.implementation)
    if missing := [need for need in cls.needs if need not in files]:
        raise ConfigError([f"+{variant.step.name} needs {need}" for need in missing], variant.name)
    step = cls(**variant.step.options)
    runtime = (runtime if cls.gpu else replace(runtime, device="cpu")).start()
    run = Run(variant.step.options, seed=variant.step.options.get("seed"), device=runtime.device if cls.gpu else None)
    inputs = StepInputs(
        parent,
        {need: files[need] for need in cls.needs},
        variant.name,
        sparse=get_mechanism(variant.mechanism).masks,
        resume_point=output / RESUME_POINT,
        runtime=runtime,
    )
    outcome = step.apply(inputs, output / "model")
    described = run.describe()
    name, options = variant.step.name, variant.step.options
    told = StepFile(variant=variant.name, name=name, options=options, run=described, **outcome.details)
    told.write(output / "step.json")
    taken = StepRecord(name=name, options=options, run=described, **outcome.summary)
    seconds = before.seconds
    record = before.model_copy(
        update={
            "variant": variant.name,
            "parent": variant.parent,
            "steps": (*before.steps, taken),
            "seconds": seconds.model_copy(
                update={
                    "steps": round(seconds.steps + run.seconds, 3),
                    "total": round(seconds.total + run.seconds, 3),
                }
            ),
            "run": described,
        }
    )
    record.write(output / "pruning.json")
    clear_resume_point(output)
    return record

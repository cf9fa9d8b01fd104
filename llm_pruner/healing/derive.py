"""A healed variant beside the others: its model, its record, and how it came about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llm_pruner.data.tokens import read_tokens
from llm_pruner.device import limit_threads, pick_device
from llm_pruner.files import read_json, write_json
from llm_pruner.healing.heal import heal
from llm_pruner.provenance import Run
from llm_pruner.steps import STEPS
from llm_pruner.variants import Variant


def heal_variant(
    variant: Variant,
    parent: Path,
    output: Path,
    *,
    tokens: Path,
    held_out: Path,
    teacher: Path,
    figure: Path | None = None,
    device: str = "auto",
    progress: bool = False,
) -> dict[str, Any]:
    """Make a healed model: ``output/model/``, ``output/healing.json`` and ``output/pruning.json``.

    Args:
        variant: what to make, such as ``GQA_2000+lora``.
        parent: folder of the variant it is made from.
        output: folder of the variant.
        tokens: token file to train on.
        held_out: token file of the curve.
        teacher: folder of the dense model.
        figure: PNG of the loss curve.

    Raises:
        CheckpointError: if the training diverges or a zero of a sparse model is lost.
    """
    assert variant.step
    device = pick_device(device)
    limit_threads()
    options = STEPS[variant.step.name](**variant.step.options)
    run = Run(variant.step.options, seed=variant.step.options["seed"], device=device)
    healing = heal(
        parent / "model",
        output / "model",
        read_tokens(tokens),
        read_tokens(held_out),
        options,
        keep_zeros=variant.family == "sparse",
        teacher=teacher,
        figure=figure,
        name=variant.name,
        device=device,
        progress=progress,
    )
    write_json(output / "healing.json", {"variant": variant.name, **healing, "run": run.describe()})
    before = read_json(parent / "pruning.json")
    seconds = before["seconds"]
    record = {
        **before,
        "variant": variant.name,
        "parent": variant.parent,
        "step": {"name": variant.step.name, "options": variant.step.options, "held_out": healing["perplexity"]},
        "seconds": {**seconds, "healing": run.seconds, "total": round(seconds["total"] + run.seconds, 3)},
        "run": run.describe(),
    }
    write_json(output / "pruning.json", record)
    return record

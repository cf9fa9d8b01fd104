"""A variant made of another, beside the others: its model, its record, and how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_pruner.data.tokens import read_tokens
from llm_pruner.steps import HEALING, QUANTIZING
from llm_pruner.system.device import limit_threads, pick_device
from llm_pruner.system.files import write_json
from llm_pruner.system.provenance import Run
from llm_pruner.variants.variant import Variant


def heal_variant(
    variant: Variant,
    parent: Path,
    before: Mapping[str, Any],
    output: Path,
    *,
    tokens: Path,
    held_out: Path,
    teacher: Path,
    device: str = "auto",
    progress: bool = False,
) -> dict[str, Any]:
    """Make a healed model: ``output/model/``, ``output/healing.json`` and ``output/pruning.json``.

    Args:
        variant: what to make, such as ``GQA_2000+lora``.
        parent: folder of the model it is made from.
        before: ``pruning.json`` of that.
        output: folder of the variant.
        tokens: token file to train on.
        held_out: token file of the curve.
        teacher: folder of the dense model.

    Raises:
        CheckpointError: if the training diverges or a zero of a sparse model is lost.
    """
    from llm_pruner.healing.heal import heal

    assert variant.step
    device = pick_device(device)
    limit_threads()
    options = HEALING[variant.step.name](**variant.step.options)
    run = Run(variant.step.options, seed=variant.step.options["seed"], device=device)
    healing = heal(
        parent,
        output / "model",
        read_tokens(tokens),
        read_tokens(held_out),
        options,
        keep_zeros=variant.family == "sparse",
        teacher=teacher,
        name=variant.name,
        device=device,
        progress=progress,
    )
    write_json(output / "healing.json", {"variant": variant.name, **healing, "run": run.describe()})
    return _write_record(variant, before, output, run, "healing", held_out=healing["perplexity"])


def quantize_variant(variant: Variant, parent: Path, before: Mapping[str, Any], output: Path) -> dict[str, Any]:
    """Store a variant in few bits: ``output/model/`` and ``output/pruning.json``.

    Args:
        variant: what to make, such as ``GQA_2000+nf4``.
        parent: folder of the model it is made from.
        before: ``pruning.json`` of that.
        output: folder of the variant.

    Raises:
        CheckpointError: if the parent cannot be read, or is quantised already.
    """
    from llm_pruner.quantization import quantize_model

    assert variant.step
    limit_threads()
    run = Run(variant.step.options)
    sizes = quantize_model(parent, output / "model", QUANTIZING[variant.step.name](**variant.step.options))
    return _write_record(variant, before, output, run, "quantizing", bytes=sizes)


def _write_record(
    variant: Variant, before: Mapping[str, Any], output: Path, run: Run, phase: str, **outcome: Any
) -> dict[str, Any]:
    """``output/pruning.json``: the parent's, with what the step did and the time it took."""
    assert variant.step
    seconds = before["seconds"]
    record = {
        **before,
        "variant": variant.name,
        "parent": variant.parent,
        "step": {"name": variant.step.name, "options": variant.step.options, **outcome},
        "seconds": {**seconds, phase: run.seconds, "total": round(seconds["total"] + run.seconds, 3)},
        "run": run.describe(),
    }
    write_json(output / "pruning.json", record)
    return record

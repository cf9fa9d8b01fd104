"""Score and prune: the two steps every method takes, whatever its family."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.data.tokens import read_tokens
from llm_pruner.device import limit_threads, pick_device
from llm_pruner.errors import CheckpointError
from llm_pruner.families import family_module
from llm_pruner.families.job import Job
from llm_pruner.files import read_json, write_json
from llm_pruner.provenance import Run
from llm_pruner.variants import Variant, build_method

if TYPE_CHECKING:
    import torch

    from llm_pruner.methods.base import Method


def compute_scores(
    implementation: str,
    family: str,
    options: Mapping[str, Any],
    base: Path,
    calibration: Path | None,
    output: Path,
    *,
    name: str,
    device: str = "auto",
    batch_size: int = 8,
    progress: bool = False,
) -> dict[str, Any]:
    """Score the base model once, for every amount of a method, and write the scores as JSON.

    Args:
        implementation: ``module:Class`` of the method.
        family: ``width`` or ``depth``.
        options: the method's options.
        base: model folder.
        calibration: token file, for methods that look at data.
        output: the JSON to write.
        name: what the scores are called in tables and figures.

    Raises:
        CheckpointError: if the base cannot be read, or gives scores that are not finite.
    """
    device = pick_device(device)
    limit_threads()
    method = build_method(implementation, options)
    run = Run(options, device=device)
    input_ids = _samples(method, calibration)
    layers = import_module(family_module(family)).score(
        method, base, input_ids, device=device, batch_size=batch_size, progress=progress
    )
    for layer in layers:
        values = [layer["score"]] if family == "depth" else [*layer["attention"], *layer["mlp"]]
        if not all(map(math.isfinite, values)):
            raise CheckpointError(
                f"{base}: {method.name} gives layer {layer['index']} scores that are not finite; "
                "the weights overflow in this dtype or are damaged"
            )
    scores = {
        "id": name,
        "method": method.name,
        "family": family,
        "options": dict(options),
        "layers": layers,
        "run": run.describe(),
    }
    write_json(output, scores)
    return scores


def prune(
    variant: Variant,
    base: Path,
    output: Path,
    *,
    scores: Path | None = None,
    calibration: Path | None = None,
    device: str = "auto",
    batch_size: int = 8,
    progress: bool = False,
) -> dict[str, Any]:
    """Make one pruned model: ``output/model/``, ``output/pruning.json`` and, where there is one, ``output/plan.json``.

    Args:
        variant: what to make.
        base: folder of the base model.
        output: folder of the variant.
        scores: JSON of ``compute_scores``, for width and depth.
        calibration: token file, for sparse methods that look at data.

    Raises:
        PlanError: if the amount cannot be reached.
        CheckpointError: if the base cannot be read.
    """
    evidence = read_json(scores) if scores else None
    device = pick_device(device)
    limit_threads()
    run = Run({**variant.options, **variant.method_options}, seed=variant.method_options.get("seed"), device=device)
    job = Job(
        variant,
        base,
        output / "model",
        evidence["layers"] if evidence else None,
        _samples(variant.build_method(), calibration),
        device,
        batch_size,
        progress,
    )
    outcome = import_module(family_module(variant.family)).prune(job)
    if outcome.plan:
        outcome.plan.write(output / "plan.json")
    scoring = evidence["run"]["seconds"] if evidence else 0.0
    asked = variant.asked
    record = {
        "variant": variant.name,
        "method": variant.method,
        "family": variant.family,
        "structure": variant.structure,
        "parent": None if variant.family == "dense" else "Dense",
        "asked": asked,
        "reached": asked and {"amount": outcome.reached, "of": asked["of"]},
        "options": {**variant.options, **variant.method_options},
        "notes": outcome.notes,
        "score": variant.score,
        "seconds": {"scoring": scoring, "pruning": run.seconds, "total": round(scoring + run.seconds, 3)},
        "run": run.describe(),
    }
    write_json(output / "pruning.json", record)
    return record


def _samples(method: Method, calibration: Path | None) -> torch.Tensor | None:
    """The calibration samples a method uses; None if it looks at none."""
    return method.first_samples(read_tokens(calibration)) if calibration and method.calibrated else None

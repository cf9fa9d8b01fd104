"""Score and prune: the two steps every method takes, whatever its family."""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.data.tokens import read_tokens
from llm_pruner.families import family_module
from llm_pruner.families.job import Job, Outcome
from llm_pruner.models.architecture import read_config, refuse_quantized, refuse_sliced
from llm_pruner.system.device import limit_threads, pick_device
from llm_pruner.system.errors import CheckpointError
from llm_pruner.system.files import read_json, write_json
from llm_pruner.system.provenance import Run
from llm_pruner.variants.variant import Score, Variant, build_method

if TYPE_CHECKING:
    import torch

    from llm_pruner.methods.base import Method


def compute_scores(
    score: Score,
    base: Path,
    calibration: Path | None,
    output: Path,
    *,
    device: str = "auto",
    batch_size: int = 8,
    progress: bool = False,
) -> dict[str, Any]:
    """Score the base model once, for every amount of a method, and write the scores as JSON.

    Args:
        score: the method and its options.
        base: model folder.
        calibration: token file, for methods that look at data.
        output: the JSON to write.

    Raises:
        CheckpointError: if the base cannot be read, or gives scores that are not finite.
        PlanError: if its hidden dimensions are sliced.
    """
    refuse_quantized(base)
    refuse_sliced(read_config(base), base)
    device = pick_device(device)
    limit_threads()
    method = build_method(score.implementation, score.options)
    run = Run(score.options, device=device)
    input_ids = _samples(method, calibration)
    scored = import_module(family_module(score.family)).score(
        method, base, input_ids, device=device, batch_size=batch_size, progress=progress, **score.mechanism
    )
    for layer in scored["layers"]:
        values = [layer["score"]] if score.family == "depth" else [*layer["attention"], *layer["mlp"]]
        if not all(map(math.isfinite, values)):
            raise CheckpointError(
                f"{base}: {method.name} gives layer {layer['index']} scores that are not finite; "
                "the weights overflow in this dtype or are damaged"
            )
    scores = {
        "id": score.name,
        "method": method.name,
        "family": score.family,
        "options": {**score.mechanism, **score.options},
        **scored,
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
    importance: Path | None = None,
    search: Path | None = None,
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
        importance: JSON of the layer scores that decide how much each layer may lose, where the options ask for it.
        search: JSON of ``search_split``, where the options ask for it.
        calibration: token file, for sparse and slicing methods that look at data.

    Raises:
        PlanError: if the amount cannot be reached.
        CheckpointError: if the base cannot be read.
    """
    refuse_quantized(base)
    sources = [read_json(path) for path in (scores, importance, search) if path]
    device = pick_device(device)
    limit_threads()
    run = Run({**variant.options, **variant.method_options}, seed=variant.method_options.get("seed"), device=device)
    job = Job(
        variant,
        base,
        output / "model",
        read_layers(scores),
        read_layers(importance),
        read_json(search)["best"]["split"] if search else None,
        _samples(variant.build_method(), calibration),
        device,
        batch_size,
        progress,
    )
    outcome = import_module(family_module(variant.family)).prune(job)
    if outcome.plan:
        outcome.plan.write(output / "plan.json")
    record = pruning_record(variant, outcome, run, sum(source["run"]["seconds"] for source in sources))
    write_json(output / "pruning.json", record)
    return record


def pruning_record(variant: Variant, outcome: Outcome, run: Run, scoring: float = 0.0) -> dict[str, Any]:
    """What ``pruning.json`` says.

    Args:
        scoring: seconds that scores took, which variants share.
    """
    asked = variant.asked
    return {
        "variant": variant.name,
        "method": variant.method,
        "family": variant.family,
        "structure": variant.structure,
        "parent": variant.parent,
        "asked": asked,
        "reached": asked and {"amount": outcome.reached, "of": asked["of"]},
        "options": {**variant.options, **variant.method_options},
        "notes": outcome.notes,
        "scores": [score.name for score in variant.scores],
        "seconds": {"scoring": scoring, "pruning": run.seconds, "total": round(scoring + run.seconds, 3)},
        "run": run.describe(),
    }


def read_layers(scores: Path | None) -> list[dict[str, Any]] | None:
    """The layers of a scores file, one entry each."""
    return read_json(scores)["layers"] if scores else None


def _samples(method: Method, calibration: Path | None) -> torch.Tensor | None:
    """The calibration samples a method uses; None if it looks at none."""
    return method.first_samples(read_tokens(calibration)) if calibration and method.calibrated else None

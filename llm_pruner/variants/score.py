"""Score the base model, once for every amount of a method, whatever its mechanism."""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.data.tokens import read_tokens
from llm_pruner.mechanisms import get_mechanism
from llm_pruner.models.architecture import read_config, refuse_quantized, refuse_sliced
from llm_pruner.system.device import limit_threads, pick_device
from llm_pruner.system.errors import CheckpointError
from llm_pruner.system.files import read_json, write_json
from llm_pruner.system.provenance import Run
from llm_pruner.variants.variant import Score, build_method

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
    input_ids = calibration_samples(method, calibration)
    mechanism = get_mechanism(score.mechanism)
    scored: dict[str, Any] = import_module(score.job).score(
        method, base, input_ids, device=device, batch_size=batch_size, progress=progress, **score.scored_options
    )
    for layer in scored["layers"]:
        if not all(map(math.isfinite, mechanism.values(layer))):
            raise CheckpointError(
                f"{base}: {method.name} gives layer {layer['index']} scores that are not finite; "
                "the weights overflow in this dtype or are damaged"
            )
    scores = {
        "id": score.name,
        "method": method.name,
        "mechanism": score.mechanism,
        "options": {**score.scored_options, **score.options},
        **scored,
        "run": run.describe(),
    }
    write_json(output, scores)
    return scores


def read_layers(scores: Path | None) -> list[dict[str, Any]] | None:
    """The layers of a scores file, one entry each."""
    return read_json(scores)["layers"] if scores else None


def calibration_samples(method: Method, calibration: Path | None) -> torch.Tensor | None:
    """The calibration samples a method uses; None if it looks at none."""
    return method.first_samples(read_tokens(calibration)) if calibration and method.calibrated else None

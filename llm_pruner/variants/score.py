"""Score the base model by any mechanism, once for all amounts of a method."""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from llm_pruner.data.tokens import read_tokens_of
from llm_pruner.mechanisms import get_mechanism
from llm_pruner.mechanisms.records import Scored, ScoresFile
from llm_pruner.models.architecture import read_config, refuse_quantized, refuse_sliced
from llm_pruner.models.shapes import check_base
from llm_pruner.system.errors import CheckpointError
from llm_pruner.system.provenance import Run
from llm_pruner.system.runtime import Runtime
from llm_pruner.variants.variant import ScoreSpec, build_method

if TYPE_CHECKING:
    import torch

    from llm_pruner.methods.base import Method


def compute_scores(
    score: ScoreSpec,
    base: Path,
    calibration: Path | None,
    output: Path,
    *,
    device: str = "auto",
    batch_size: int = 8,
    progress: bool = False,
    check: bool = True,
) -> ScoresFile:
    """Score the base model once for all amounts of a method, and write the scores as JSON.

    Args:
        score: the method and its options.
        base: model folder.
        calibration: token file, for methods that look at data.
        output: the JSON to write.
        check: check all weights of the base first; not needed if they were checked before.

    Raises:
        CheckpointError: if the base cannot be read, its weights do not match its config.json or are not finite, or its
            scores are not finite.
        DataError: if the calibration samples are damaged, or do not fit the base's vocabulary.
        PlanError: if the base's hidden dimensions are sliced.
    """
    refuse_quantized(base)
    refuse_sliced(read_config(base), base)
    if check:
        check_base(base)
    runtime = Runtime(device, batch_size, progress).start()
    method = build_method(score.implementation, score.options)
    run = Run(score.options, device=runtime.device)
    input_ids = calibration_samples(method, calibration, base)
    mechanism = get_mechanism(score.mechanism)
    assert mechanism.Scores
    scored: Scored = import_module(score.job).score(method, base, input_ids, runtime, **score.scored_options)
    for layer in scored.layers:
        if not all(map(math.isfinite, layer.values())):
            raise CheckpointError(
                f"{base}: {method.name} gives layer {layer.index} scores that are not finite; "
                "the weights overflow in this dtype or are damaged"
            )
    scores = mechanism.Scores(
        id=score.name,
        method=method.name,
        mechanism=score.mechanism,
        options={**score.scored_options, **score.options},
        layers=scored.layers,
        layer_evaluations=scored.evaluations,
        run=run.describe(),
    )
    scores.write(output)
    return scores


def calibration_samples(method: Method, calibration: Path | None, base: Path) -> torch.Tensor | None:
    """The calibration samples of a method; None if the method uses no samples.

    Raises:
        DataError: if the token file is damaged or does not fit the base.
    """
    return method.first_samples(read_tokens_of(calibration, base)) if calibration and method.calibrated else None

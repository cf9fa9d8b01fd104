"""Whole layers go, or their attention or MLP blocks: those that the method selects by its scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.families.job import Job, Outcome
from llm_pruner.families.options import DepthOptions
from llm_pruner.methods.base import LayerScoreMethod, Method
from llm_pruner.models.architecture import read_architecture
from llm_pruner.planning.plan import Plan
from llm_pruner.scoring.stream import LayerStream
from llm_pruner.surgery.cut import cut
from llm_pruner.system.errors import PlanError

if TYPE_CHECKING:
    import torch

    from llm_pruner.variants.variant import Variant


def score(
    method: Method,
    base: Path,
    input_ids: torch.Tensor | None,
    *,
    device: str,
    batch_size: int,
    progress: bool,
    drop: str = "layer",
) -> dict[str, Any]:
    """``layers``: each one's entry, ``{"index": 0, "score": 0.44}`` and what the method adds; and the layer
    evaluations it took. With ``drop`` the score is of the layer's attention or MLP block."""
    assert isinstance(method, LayerScoreMethod) and input_ids is not None
    stream = LayerStream(
        base,
        input_ids,
        device=device,
        batch_size=batch_size,
        progress=progress,
        description=f"{method.name} layers",
        part=drop,
    )
    layers = method.layer_entries(stream)
    return {
        "layers": layers,
        "layer_evaluations": {"run": stream.evaluations, "naive": method.naive_evaluations(len(layers))},
    }


def check(variant: Variant, num_layers: int) -> None:
    """Raise PlanError unless ``variant`` fits a model with ``num_layers`` layers; needs no scores."""
    options, count = DepthOptions(**variant.options), int(variant.amount)
    removable = len(options.removable(num_layers))
    most = min(removable, num_layers - 1)
    if count > most:
        protected = num_layers - removable
        hint = f", {protected} of them protected by protect_first and protect_last," if protected else ","
        raise PlanError(f"the model has {num_layers} layers{hint} at most {most} can go")
    method = variant.build_method()
    assert isinstance(method, LayerScoreMethod)
    method.check_count(num_layers, count)


def prune(job: Job) -> Outcome:
    """Remove the ``amount`` layers, or blocks of so many layers, that the method selects.

    Raises:
        PlanError: if that would leave no layer, or the scores or the options do not allow so many.
    """
    assert job.scores is not None
    method = job.variant.build_method()
    assert isinstance(method, LayerScoreMethod)
    layers = range(len(job.scores))
    options = DepthOptions(**job.variant.options)
    try:
        check(job.variant, len(layers))
        removable = options.removable(len(layers))
        removed = method.select([job.scores[index] for index in removable], int(job.variant.amount))
    except PlanError as error:
        raise PlanError(f"{job.variant.name}: {error}") from None
    architecture = read_architecture(job.base)
    if options.drop == "layer":
        plan = Plan.keep_layers(architecture, set(layers) - set(removed))
    else:
        plan = Plan.drop_blocks(architecture, options.drop, removed)
    cut(job.base, plan, job.model, progress=job.progress)
    return Outcome(len(removed), plan, method.notes([job.scores[index] for index in sorted(removed)]))

"""Whole layers go, those with the lowest scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.errors import PlanError
from llm_pruner.families.job import Job, Outcome
from llm_pruner.methods.base import LayerScoreMethod, Method
from llm_pruner.models.architecture import read_architecture
from llm_pruner.planning.allocation import keep_highest
from llm_pruner.planning.plan import Plan
from llm_pruner.streaming import LayerStream
from llm_pruner.surgery import cut

if TYPE_CHECKING:
    import torch


def score(
    method: Method,
    base: Path,
    input_ids: torch.Tensor | None,
    *,
    device: str,
    batch_size: int,
    progress: bool,
) -> dict[str, Any]:
    """``layers``: each one's score, ``{"index": 0, "score": 0.44}``; and the layer evaluations it took."""
    assert isinstance(method, LayerScoreMethod) and input_ids is not None
    stream = LayerStream(
        base,
        input_ids,
        device=device,
        batch_size=batch_size,
        progress=progress,
        description=f"{method.name} layers",
    )
    scores = method.layer_scores(stream)
    return {
        "layers": [{"index": index, "score": value} for index, value in enumerate(scores)],
        "layer_evaluations": {"run": stream.evaluations, "naive": method.naive_evaluations(len(scores))},
    }


def prune(job: Job) -> Outcome:
    """Remove the ``amount`` lowest-scored layers.

    Raises:
        PlanError: if that would leave no layer.
    """
    assert job.scores is not None
    count, layers = int(job.variant.amount), len(job.scores)
    if count >= layers:
        raise PlanError(f"{job.variant.name}: the model has {layers} layers, at most {layers - 1} can go")
    kept = keep_highest([entry["score"] for entry in job.scores], count)
    plan = Plan.keep_layers(read_architecture(job.base), kept)
    cut(job.base, plan, job.model, progress=job.progress)
    return Outcome(len(plan.removed_layers), plan)

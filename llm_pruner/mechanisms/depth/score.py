"""Scoring jobs of whole layers, or of their attention or MLP blocks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llm_pruner.mechanisms.depth.records import RankedEntry
from llm_pruner.mechanisms.records import Evaluations, Scored
from llm_pruner.methods.base import LayerScoreMethod, Method
from llm_pruner.scoring.stream import LayerStream
from llm_pruner.system.runtime import Runtime

if TYPE_CHECKING:
    import torch


def score(
    method: Method,
    base: Path,
    input_ids: torch.Tensor | None,
    runtime: Runtime,
    *,
    drop: str = "layer",
) -> Scored:
    """Score the layers of a model, and count the layer evaluations.

    Args:
        method: a ``LayerScoreMethod``.
        base: model folder.
        input_ids: int64 [samples, length].
        runtime: where the job runs.
        drop: part to score: the whole ``layer``, or its ``attention`` or ``mlp`` block.

    Raises:
        CheckpointError: if the model folder cannot be read.
    """
    assert isinstance(method, LayerScoreMethod) and input_ids is not None
    stream = LayerStream(
        base,
        input_ids,
        runtime,
        description=f"{method.name} layers",
        part=drop,
    )
    layers = tuple(RankedEntry(**entry) for entry in method.layer_entries(stream))
    return Scored(layers, Evaluations(run=stream.evaluations, naive=method.naive_evaluations(len(layers))))

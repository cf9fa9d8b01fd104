"""Scoring jobs that measure layers for allocations: one number for each layer, from weights and evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llm_pruner.mechanisms.records import Scored
from llm_pruner.mechanisms.sparse.records import MeasuredEntry
from llm_pruner.methods.base import LayerMeasure, Method
from llm_pruner.scoring.evidence import gather
from llm_pruner.system.runtime import Runtime

if TYPE_CHECKING:
    import torch


def score(method: Method, base: Path, input_ids: torch.Tensor | None, runtime: Runtime) -> Scored:
    """Measure each layer of the dense model.

    Args:
        method: a ``LayerMeasure``.
        base: model folder.
        input_ids: int64 [samples, length], or None if the measure uses no data.
        runtime: where the job runs.

    Raises:
        CheckpointError: if the model folder cannot be read.
    """
    assert isinstance(method, LayerMeasure)
    layers = gather(method.evidence, base, input_ids, runtime, description=f"{method.name} layers")
    return Scored(
        tuple(MeasuredEntry(index=layer.index, score=method.measure(list(layer.linears()))) for layer in layers)
    )

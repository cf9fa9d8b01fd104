"""One number a layer, for allocations: what a measure makes of its weights and of evidence about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llm_pruner.mechanisms.records import Scored
from llm_pruner.mechanisms.sparse.records import MeasuredEntry
from llm_pruner.methods.base import LayerMeasure, Method
from llm_pruner.scoring.evidence import gather

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
) -> Scored:
    """The measure of each layer as it is in the dense model."""
    assert isinstance(method, LayerMeasure)
    layers = gather(
        method.evidence,
        base,
        input_ids,
        device=device,
        batch_size=batch_size,
        progress=progress,
        description=f"{method.name} layers",
    )
    return Scored(
        tuple(MeasuredEntry(index=layer.index, score=method.measure(list(layer.linears()))) for layer in layers)
    )

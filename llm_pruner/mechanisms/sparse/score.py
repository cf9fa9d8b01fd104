"""One number a layer, for allocations: what a measure makes of its weights and of evidence about them."""

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
    """The measure of each layer as it is in the dense model."""
    assert isinstance(method, LayerMeasure)
    layers = gather(method.evidence, base, input_ids, runtime, description=f"{method.name} layers")
    return Scored(
        tuple(MeasuredEntry(index=layer.index, score=method.measure(list(layer.linears()))) for layer in layers)
    )

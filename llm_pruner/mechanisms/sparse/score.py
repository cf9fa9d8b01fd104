"""One number a layer, for allocations: what a measure makes of its weights and of evidence about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
) -> dict[str, Any]:
    """``layers``: the measure of each as it is in the dense model, ``{"index": 0, "score": 1.06}``."""
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
    return {"layers": [{"index": layer.index, "score": method.measure(list(layer.linears()))} for layer in layers]}

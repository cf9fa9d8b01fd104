"""Scores of whole layers, or of their attention or MLP blocks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
) -> dict[str, Any]:
    """``layers``: each one's entry, ``{"index": 0, "score": 0.44}`` and what the method adds; and the layer
    evaluations it took. With ``drop`` the score is of the layer's attention or MLP block."""
    assert isinstance(method, LayerScoreMethod) and input_ids is not None
    stream = LayerStream(
        base,
        input_ids,
        runtime,
        description=f"{method.name} layers",
        part=drop,
    )
    layers = method.layer_entries(stream)
    return {
        "layers": layers,
        "layer_evaluations": {"run": stream.evaluations, "naive": method.naive_evaluations(len(layers))},
    }

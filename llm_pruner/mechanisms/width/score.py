"""Scores of key-value groups and MLP channels.

A method is a saliency of single weights. Here it is summed over the rows and columns that must go together.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llm_pruner.mechanisms.records import Scored
from llm_pruner.mechanisms.width.records import GroupEntry
from llm_pruner.mechanisms.width.units import cut_along, sum_over_channels, sum_over_key_value_groups
from llm_pruner.methods.base import Method, SaliencyMethod
from llm_pruner.models.architecture import read_architecture
from llm_pruner.scoring.evidence import gather
from llm_pruner.system.runtime import Runtime

if TYPE_CHECKING:
    import torch


def score(
    method: Method,
    base: Path,
    input_ids: torch.Tensor | None,
    runtime: Runtime,
) -> Scored:
    """Scores of groups and channels."""
    assert isinstance(method, SaliencyMethod)
    architecture = read_architecture(base)
    architecture.check_blocks()
    layers = []
    for layer in gather(
        method.evidence,
        base,
        input_ids,
        runtime,
        description=f"{method.name} layers",
        checkpointing=method.checkpointing,
    ):
        saliencies = {
            evidence.linear: method.summed(weight, evidence, cut_along(evidence.linear))
            for weight, evidence in layer.linears()
        }
        shape = architecture.layers[layer.index]
        attention = sum_over_key_value_groups(saliencies, shape, architecture.head_dim)
        mlp = sum_over_channels(saliencies, shape)
        layers.append(GroupEntry(index=layer.index, attention=_rounded(attention), mlp=_rounded(mlp)))
    return Scored(tuple(sorted(layers, key=lambda layer: layer.index)))


def _rounded(scores: torch.Tensor) -> tuple[float, ...]:
    """Nine significant digits: all that float32 holds."""
    return tuple(float(f"{value:.9g}") for value in scores.tolist())

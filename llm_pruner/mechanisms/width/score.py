"""Scoring jobs of key-value groups and MLP channels.

The scores of a ``SaliencyMethod`` are summed over the rows and columns of a unit. A ``ColumnMethod`` scores the units
in the two linear layers that write the residual stream.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llm_pruner.mechanisms.records import Scored
from llm_pruner.mechanisms.width.records import GroupEntry
from llm_pruner.mechanisms.width.units import cut_along, sum_over_channels, sum_over_key_value_groups
from llm_pruner.methods.base import ColumnMethod, Method, SaliencyMethod
from llm_pruner.models.architecture import LayerShape, read_architecture
from llm_pruner.models.layout import LINEARS, output_linears
from llm_pruner.scoring.evidence import LayerEvidence, gather
from llm_pruner.system.runtime import Runtime

if TYPE_CHECKING:
    import torch


def score(
    method: Method,
    base: Path,
    input_ids: torch.Tensor | None,
    runtime: Runtime,
) -> Scored:
    """Score the key-value groups and MLP channels of a model.

    Args:
        method: a ``SaliencyMethod`` or a ``ColumnMethod``.
        base: model folder.
        input_ids: int64 [samples, length], or None if the method uses no data.
        runtime: where the job runs.

    Raises:
        CheckpointError: if the model folder cannot be read.
        PlanError: if a layer of the model lacks a block.
    """
    assert isinstance(method, SaliencyMethod | ColumnMethod)
    architecture = read_architecture(base)
    architecture.check_blocks()
    layers = []
    for layer in gather(
        method.evidence,
        base,
        input_ids,
        runtime,
        description=f"{method.name} layers",
        linears=None if isinstance(method, SaliencyMethod) else output_linears(LINEARS).values(),
        checkpointing=not isinstance(method, SaliencyMethod) or method.checkpointing,
    ):
        shape = architecture.layers[layer.index]
        if isinstance(method, SaliencyMethod):
            scores = _sums(method, layer, shape, architecture.head_dim)
        else:
            scores = _columns(method, layer, shape)
        attention, mlp = map(_rounded, scores)
        layers.append(GroupEntry(index=layer.index, attention=attention, mlp=mlp))
    return Scored(tuple(sorted(layers, key=lambda layer: layer.index)))


def _sums(
    method: SaliencyMethod, layer: LayerEvidence, shape: LayerShape, head_dim: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of groups and of channels, as sums over single weights."""
    saliencies = {
        evidence.linear: method.summed(weight, evidence, cut_along(evidence.linear))
        for weight, evidence in layer.linears()
    }
    return sum_over_key_value_groups(saliencies, shape, head_dim), sum_over_channels(saliencies, shape)


def _columns(method: ColumnMethod, layer: LayerEvidence, shape: LayerShape) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of groups and of channels, from columns of the linear layers that write the residual stream."""
    units = {"attention": shape.key_value_groups, "mlp": shape.channels}
    scores = {}
    for block, name in output_linears(layer.evidence).items():
        weight = layer.parameters[f"{name}.weight"]
        scores[block] = method.unit_scores(weight, layer.evidence[name], weight.shape[1] // units[block])
    return scores["attention"], scores["mlp"]


def _rounded(scores: torch.Tensor) -> tuple[float, ...]:
    """Scores with nine significant digits, the precision of float32."""
    return tuple(float(f"{value:.9g}") for value in scores.tolist())

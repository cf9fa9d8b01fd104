"""Sums of saliency over the units of width pruning: key-value groups and MLP channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from llm_pruner.models.architecture import LayerShape
from llm_pruner.models.layout import block_of_linear, cut_of, linears_among, segment_sizes

if TYPE_CHECKING:
    import torch


def cut_along(linear: str) -> int:
    """Dimension of a sum that leaves one number for each row or column that can be cut."""
    cut = cut_of(linear)
    assert cut
    return 1 - cut.axis


def sum_over_key_value_groups(saliencies: Mapping[str, torch.Tensor], shape: LayerShape, head_dim: int) -> torch.Tensor:
    """Saliency of a layer's key-value groups: the sum over a group's k and v rows, the q rows of its (contiguous) query
    heads, and the o columns of these heads.

    Args:
        saliencies: by linear name, float [out_features], or float [in_features] of ``o_proj``.
        shape: shape of the layer.
        head_dim: rows of one head.

    Returns:
        float [groups].
    """
    return _summed(saliencies, "attention", shape, head_dim, shape.key_value_groups)


def sum_over_channels(saliencies: Mapping[str, torch.Tensor], shape: LayerShape) -> torch.Tensor:
    """Saliency of a layer's MLP channels, float [channels]: the sum over a channel's gate and up rows and its down
    column."""
    return _summed(saliencies, "mlp", shape, 1, shape.channels)


def _summed(
    saliencies: Mapping[str, torch.Tensor], block: str, shape: LayerShape, head_dim: int, units: int
) -> torch.Tensor:
    import torch

    parts = []
    for name in linears_among({f"{name}.weight" for name in saliencies}):
        cut = cut_of(name)
        if cut and block_of_linear(name) == block:
            sizes = segment_sizes(
                cut,
                shape.key_value_groups,
                shape.channels,
                heads_per_group=shape.heads_per_group,
                head_dim=head_dim,
            )
            parts += [segment.view(units, -1).sum(dim=1) for segment in saliencies[name].split(sizes)]
    return torch.stack(parts).sum(dim=0)

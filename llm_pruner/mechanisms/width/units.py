"""What goes together by width: sums of saliency over key-value groups and over MLP channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from llm_pruner.models.architecture import LayerShape
from llm_pruner.models.layout import block_of_linear, cut_of, linears_among, segment_sizes

if TYPE_CHECKING:
    import torch


def cut_along(linear: str) -> int:
    """The dimension to sum over so that one number remains for each row or column that can be cut."""
    cut = cut_of(linear)
    assert cut
    return 1 - cut.axis


def sum_over_key_value_groups(saliencies: Mapping[str, torch.Tensor], shape: LayerShape, head_dim: int) -> torch.Tensor:
    """Saliency of a layer's key-value groups: of the k and v rows of each, the q rows of its (contiguous) query heads
    and the o columns they feed.

    Args:
        saliencies: by linear name, one number for each row, or each column of ``o_proj``.
        shape: of the layer.

    Returns:
        [groups]
    """
    return _summed(saliencies, "attention", shape, head_dim, shape.key_value_groups)


def sum_over_channels(saliencies: Mapping[str, torch.Tensor], shape: LayerShape) -> torch.Tensor:
    """Saliency of a layer's MLP channels, [channels]: of the gate and up rows and the down column of each."""
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

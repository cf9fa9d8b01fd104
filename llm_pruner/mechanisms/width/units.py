"""What goes together by width: sums of saliency over key-value groups and over MLP channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from llm_pruner.models.architecture import ATTENTION_INPUTS, ATTENTION_OUTPUT, MLP_INPUTS, MLP_OUTPUT

if TYPE_CHECKING:
    import torch


def cut_along(linear: str) -> int:
    """The dimension to sum over so that one number remains for each row or column that can be cut."""
    return 0 if linear.rpartition(".")[2] in (ATTENTION_OUTPUT, MLP_OUTPUT) else 1


def sum_over_key_value_groups(saliencies: Mapping[str, torch.Tensor], groups: int) -> torch.Tensor:
    """Saliency of a layer's key-value groups: of the k and v rows of each, the q rows of its (contiguous) query heads
    and the o columns they feed.

    Args:
        saliencies: by linear name, one number for each row, or each column of ``o_proj``.

    Returns:
        [groups]
    """
    import torch

    linears = [saliencies[f"self_attn.{name}"] for name in (*ATTENTION_INPUTS, ATTENTION_OUTPUT)]
    return torch.stack([each.view(groups, -1).sum(dim=1) for each in linears]).sum(dim=0)


def sum_over_channels(saliencies: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Saliency of a layer's MLP channels, [channels]: of the gate and up rows and the down column of each."""
    import torch

    return torch.stack([saliencies[f"mlp.{name}"] for name in (*MLP_INPUTS, MLP_OUTPUT)]).sum(dim=0)

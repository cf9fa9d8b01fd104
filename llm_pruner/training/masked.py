"""Low-rank adapters that keep zeros: the weights become W + M∘(B·A)·alpha/rank, and M is zero where W is zero.

MaskLoRA of Zimmer et al., PERP: Rethinking the Prune-Retrain Paradigm in the Era of LLMs, 2023 (arXiv:2312.15230).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils import parametrize

from llm_pruner.models.layout import decoder_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from llm_pruner.training.options import HealingOptions


class MaskedLowRank(nn.Module):
    """Parametrization that adds a masked low-rank change to a weight [out_features, in_features].

    Adapters are float32; the result has the weight's dtype. Merging saves the same weights that a forward pass uses,
    rounding included.
    """

    zeros: torch.Tensor

    def __init__(self, weight: torch.Tensor, options: HealingOptions) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.scale = options.alpha / options.rank
        self.dropout = nn.Dropout(options.dropout)
        self.a = nn.Parameter(weight.new_empty(options.rank, columns, dtype=torch.float32))
        self.b = nn.Parameter(weight.new_zeros(rows, options.rank, dtype=torch.float32))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))  # as peft and nn.Linear do
        self.register_buffer("zeros", weight == 0)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        seen = self.dropout(self.a.new_ones(self.a.shape[1]))
        change = self.b @ (self.a * seen) * self.scale
        return (weight.float() + change.masked_fill(self.zeros, 0)).to(weight.dtype)


def attach(model: PreTrainedModel, options: HealingOptions) -> PreTrainedModel:
    """Add trainable adapters to the weights of the targeted linear layers, and freeze everything else."""
    model.requires_grad_(False)
    for name, linear in decoder_layers(model).named_modules():
        if isinstance(linear, nn.Linear) and name.rpartition(".")[2] in options.targets:
            parametrize.register_parametrization(linear, "weight", MaskedLowRank(linear.weight, options))
    return model


def merge(model: PreTrainedModel) -> PreTrainedModel:
    """Turn the weights into ordinary parameters again, as a forward pass in evaluation mode uses them."""
    model.eval()  # otherwise dropout would be merged too
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return model

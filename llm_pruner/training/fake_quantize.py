"""Training for few bits: layers compute with quantised weights, while training changes the full-precision weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def straight_through(weight: torch.Tensor, quantized: torch.Tensor) -> torch.Tensor:
    """``quantized`` in the forward pass, with its gradient passed to ``weight`` (Bengio et al., 2013,
    arXiv:1308.3432)."""
    return quantized.detach() + (weight - weight.detach())  # the difference is zero, so the value is exact


class FakeQuantize(nn.Module):
    """Parametrization of a linear layer: the layer computes with its quantised weight, and trains the full weight."""

    def __init__(self, quantize: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.quantize = quantize

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return straight_through(weight, self.quantize(weight.detach()))

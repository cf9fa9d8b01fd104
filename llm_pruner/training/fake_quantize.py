"""Training for few bits: layers compute with quantised weights while the whole ones are trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def straight_through(weight: torch.Tensor, quantized: torch.Tensor) -> torch.Tensor:
    """``quantized`` going forward, the gradient of ``weight`` going back (Bengio et al., 2013, arXiv:1308.3432)."""
    return quantized.detach() + (weight - weight.detach())  # adds zeros, so that the value is exact


class FakeQuantize(nn.Module):
    """A parametrization: a linear layer computes with what quantising leaves of its weight, and trains the weight."""

    def __init__(self, quantize: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.quantize = quantize

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return straight_through(weight, self.quantize(weight.detach()))

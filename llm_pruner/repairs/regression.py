"""What the outputs of a linear layer should be, in terms of its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from llm_pruner.scoring.moments import Moments

if TYPE_CHECKING:
    import torch


@dataclass
class Regression:
    """Sums over tokens of a linear layer's inputs x and of its wanted outputs t, weighted as the moments are: the
    squared error of any weight follows from them."""

    moments: Moments
    """Of x."""
    cross: torch.Tensor
    """float32 [out_features, in_features]: the sum of t·xᵀ."""
    energy: float
    """The sum of the squared norms of t."""
    towards_stream: bool = False
    """Whether t is what takes the residual stream to where the dense model has it, and not the layer's own output."""

    @classmethod
    def empty(
        cls, outputs: int, inputs: int, *, towards_stream: bool = False, device: torch.device | str = "cpu"
    ) -> Self:
        """Of no tokens."""
        import torch

        return cls(Moments.empty(inputs, device), torch.zeros(outputs, inputs, device=device), 0.0, towards_stream)

    @classmethod
    def of_weight(cls, weight: torch.Tensor, moments: Moments) -> Self:
        """The outputs wanted are those that a weight [out_features, in_features] gives."""
        import torch

        cross = weight.float() @ moments.gram
        return cls(moments, cross, (cross * weight.float()).sum(dtype=torch.float64).item())

    def add(self, inputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None) -> None:
        """Add inputs [..., in_features] and wanted outputs [..., out_features] of the same tokens, weighted [...]."""
        import torch

        self.moments.add(inputs, weights)
        rows = targets.flatten(0, -2).float()
        weighted = rows if weights is None else rows * weights.flatten()[:, None]
        self.cross.addmm_(weighted.T, inputs.flatten(0, -2).float())
        self.energy += (weighted * rows).sum(dtype=torch.float64).item()

    def loss(self, weight: torch.Tensor) -> float:
        """The squared error of a weight [out_features, in_features] by the squared norm of what is wanted."""
        import torch

        rows = weight.float()
        fitted = ((rows @ self.moments.gram - 2 * self.cross) * rows).sum(dtype=torch.float64).item()
        return (self.energy + fitted) / self.energy if self.energy else 0.0

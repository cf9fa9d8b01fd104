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
    wanted: torch.Tensor
    """float32 [out_features]: the sum of t."""
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

        cross, wanted = torch.zeros(outputs, inputs, device=device), torch.zeros(outputs, device=device)
        return cls(Moments.empty(inputs, device), cross, wanted, 0.0, towards_stream)

    @classmethod
    def of_weight(cls, weight: torch.Tensor, moments: Moments) -> Self:
        """The outputs wanted are those that a weight [out_features, in_features] gives."""
        import torch

        cross = weight.float() @ moments.gram
        energy = (cross * weight.float()).sum(dtype=torch.float64).item()
        return cls(moments, cross, weight.float() @ moments.total, energy)

    def add(self, inputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None) -> None:
        """Add inputs [..., in_features] and wanted outputs [..., out_features] of the same tokens, weighted [...]."""
        import torch

        self.moments.add(inputs, weights)
        rows = targets.flatten(0, -2).float()
        weighted = rows if weights is None else rows * weights.flatten()[:, None]
        self.cross.addmm_(weighted.T, inputs.flatten(0, -2).float())
        self.wanted += weighted.sum(0)
        self.energy += (weighted * rows).sum(dtype=torch.float64).item()

    def mean_error(self, weight: torch.Tensor) -> torch.Tensor:
        """float32 [out_features]: what a weight's outputs lack on average, which is the best bias to add to them."""
        return (self.wanted - weight.float() @ self.moments.total) / self.moments.mass

    def loss(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> float:
        """The squared error of a weight [out_features, in_features], and of a bias [out_features] added to its outputs,
        by the squared norm of what is wanted."""
        import torch

        rows = weight.float()
        fitted = ((rows @ self.moments.gram - 2 * self.cross) * rows).sum(dtype=torch.float64).item()
        if bias is not None:
            shift = bias.float()
            lacking = self.moments.mass * (shift - 2 * self.mean_error(weight))
            fitted += (lacking * shift).sum(dtype=torch.float64).item()
        return (self.energy + fitted) / self.energy if self.energy else 0.0

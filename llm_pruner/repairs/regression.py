"""The regression of a linear layer's target outputs on its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from llm_pruner.scoring.moments import Moments

if TYPE_CHECKING:
    import torch


@dataclass
class Regression:
    """Weighted sums over tokens of a linear layer's inputs x and target outputs t. They determine the squared error of
    any weight."""

    moments: Moments
    """Moments of x."""
    cross: torch.Tensor
    """Sum of t·xᵀ, float32 [out_features, in_features]."""
    wanted: torch.Tensor
    """Sum of t, float32 [out_features]."""
    energy: float
    """Sum of the squared norms of t."""
    towards_stream: bool = False
    """Whether t restores the dense model's residual stream; if not, t is the original weight's output."""

    @classmethod
    def empty(
        cls, outputs: int, inputs: int, *, towards_stream: bool = False, device: torch.device | str = "cpu"
    ) -> Self:
        """A regression over no tokens."""
        import torch

        cross, wanted = torch.zeros(outputs, inputs, device=device), torch.zeros(outputs, device=device)
        return cls(Moments.empty(inputs, device), cross, wanted, 0.0, towards_stream)

    @classmethod
    def of_weight(cls, weight: torch.Tensor, moments: Moments) -> Self:
        """The regression whose target outputs are the outputs of ``weight``, [out_features, in_features]."""
        import torch

        cross = weight.float() @ moments.gram
        energy = (cross * weight.float()).sum(dtype=torch.float64).item()
        return cls(moments, cross, weight.float() @ moments.total, energy)

    def add(self, inputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None) -> None:
        """Add tokens to the sums.

        Args:
            inputs: [..., in_features].
            targets: target outputs of the same tokens, [..., out_features].
            weights: weights of the tokens, [...]; 1 by default.
        """
        import torch

        self.moments.add(inputs, weights)
        rows = targets.flatten(0, -2).float()
        weighted = rows if weights is None else rows * weights.flatten()[:, None]
        self.cross.addmm_(weighted.T, inputs.flatten(0, -2).float())
        self.wanted += weighted.sum(0)
        self.energy += (weighted * rows).sum(dtype=torch.float64).item()

    def mean_error(self, weight: torch.Tensor) -> torch.Tensor:
        """Mean of t minus the weight's outputs, float32 [out_features]: the best bias to add to these outputs."""
        return (self.wanted - weight.float() @ self.moments.total) / self.moments.mass

    def loss(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> float:
        """Squared error of a weight's outputs, divided by the targets' squared norm.

        Args:
            weight: [out_features, in_features].
            bias: [out_features], added to the outputs.
        """
        import torch

        rows = weight.float()
        fitted = ((rows @ self.moments.gram - 2 * self.cross) * rows).sum(dtype=torch.float64).item()
        if bias is not None:
            shift = bias.float()
            lacking = self.moments.mass * (shift - 2 * self.mean_error(weight))
            fitted += (lacking * shift).sum(dtype=torch.float64).item()
        return (self.energy + fitted) / self.energy if self.energy else 0.0

"""First and second moments of what enters a linear layer: what least squares, and all that is built on it, need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import torch


@dataclass
class Moments:
    """Sums over tokens of the inputs x of a linear layer."""

    count: int
    """Tokens."""
    total: torch.Tensor
    """float32 [in_features]: the sum of x."""
    gram: torch.Tensor
    """float32 [in_features, in_features]: the sum of x·xᵀ."""

    @classmethod
    def empty(cls, features: int, device: torch.device | str = "cpu") -> Self:
        """Of no tokens."""
        import torch

        return cls(0, torch.zeros(features, device=device), torch.zeros(features, features, device=device))

    def add(self, inputs: torch.Tensor) -> None:
        """Add inputs, [..., in_features]."""
        rows = inputs.flatten(0, -2).float()
        self.count += len(rows)
        self.total += rows.sum(0)
        self.gram.addmm_(rows.T, rows)

    def __add__(self, other: Self) -> Self:
        return type(self)(self.count + other.count, self.total + other.total, self.gram + other.gram)

    def mean(self) -> torch.Tensor:
        """float32 [in_features]: the mean of x."""
        return self.total / self.count

    def variance(self) -> torch.Tensor:
        """float32 [in_features]: the variance of each feature, over tokens, not below 0."""
        return (self.gram.diagonal() / self.count - self.mean().square()).clamp(min=0)

    def hessian(self, ridge: float = 0.01) -> torch.Tensor:
        """float64 [in_features, in_features]: the mean of x·xᵀ, with ``ridge`` times its mean diagonal added to it.

        A feature that is always zero gets a diagonal of one, so that the matrix can be inverted.
        """
        hessian = self.gram.double() / self.count
        diagonal = hessian.diagonal()
        damping = ridge * diagonal.mean()
        silent = diagonal == 0
        diagonal += damping
        diagonal[silent] = 1.0
        return hessian

    def loss(self, difference: torch.Tensor) -> float:
        """The mean over tokens of the squared norm of what a change of the weight changes in the output.

        Args:
            difference: [out_features, in_features], the one weight minus the other.
        """
        import torch

        rows = difference.float()
        return ((rows @ self.gram) * rows).sum(dtype=torch.float64).item() / self.count

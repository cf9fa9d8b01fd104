"""First and second moments of a linear layer's inputs, for least squares and the methods built on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import torch


@dataclass
class Moments:
    """Weighted sums over tokens of the inputs x of a linear layer. A token weighs one by default."""

    tokens: int
    """Number of tokens."""
    mass: float
    """Sum of the tokens' weights."""
    total: torch.Tensor
    """float32 [in_features]: weighted sum of x."""
    gram: torch.Tensor
    """float32 [in_features, in_features]: weighted sum of x·xᵀ."""

    @classmethod
    def empty(cls, features: int, device: torch.device | str = "cpu") -> Self:
        """Moments of no tokens."""
        import torch

        return cls(0, 0.0, torch.zeros(features, device=device), torch.zeros(features, features, device=device))

    def add(self, inputs: torch.Tensor, weights: torch.Tensor | None = None) -> None:
        """Add inputs, float [..., in_features], with the tokens' weights, float [...]; one each by default."""
        import torch

        rows = inputs.flatten(0, -2).float()
        weighted = rows if weights is None else rows * weights.flatten()[:, None]
        self.tokens += len(rows)
        self.mass += len(rows) if weights is None else weights.sum(dtype=torch.float64).item()
        self.total += weighted.sum(0)
        self.gram.addmm_(weighted.T, rows)

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.tokens + other.tokens, self.mass + other.mass, self.total + other.total, self.gram + other.gram
        )

    def mean(self) -> torch.Tensor:
        """float32 [in_features]: weighted mean of x."""
        return self.total / self.mass

    def variance(self) -> torch.Tensor:
        """float32 [in_features]: weighted variance of each feature over tokens, at least 0."""
        return (self.gram.diagonal() / self.mass - self.mean().square()).clamp(min=0)

    def hessian(self, ridge: float = 0.01) -> torch.Tensor:
        """float64 [in_features, in_features]: mean of x·xᵀ, plus ``ridge`` times its mean diagonal on the diagonal.

        A feature that is always zero gets a diagonal of one, so that the matrix has an inverse.
        """
        hessian = self.gram.double() / self.mass
        diagonal = hessian.diagonal()
        damping = ridge * diagonal.mean()
        silent = diagonal == 0
        diagonal += damping
        diagonal[silent] = 1.0
        return hessian

    def loss(self, difference: torch.Tensor) -> float:
        """Squared error of the output after a change of the weight, weighted mean over tokens.

        Args:
            difference: float [out_features, in_features], one weight minus the other.
        """
        import torch

        rows = difference.float()
        return ((rows @ self.gram) * rows).sum(dtype=torch.float64).item() / self.mass

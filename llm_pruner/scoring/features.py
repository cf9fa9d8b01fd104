"""Statistics of each input feature of a linear layer: norms and variance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass
class Features:
    """Sums over the inputs x of a linear layer, feature by feature."""

    tokens: int = 0
    """Tokens added so far."""
    total: torch.Tensor | float = 0.0
    """float32 [in_features]: sum of x over tokens."""
    norms: list[torch.Tensor] = field(default_factory=list)
    """Batches of float32 [batch, in_features]: L2 norm over the tokens of each sample."""

    def add(self, inputs: torch.Tensor) -> None:
        """Add the inputs of whole samples, float [batch, length, in_features]."""
        states = inputs.float()
        self.tokens += states.shape[0] * states.shape[1]
        self.total = states.sum(dim=(0, 1)) + self.total
        self.norms.append(states.square().sum(dim=1).sqrt())

    def input_norm(self) -> torch.Tensor:
        """float32 [in_features]: root mean square of the norm over samples."""
        import torch

        return torch.cat(self.norms).square().mean(dim=0).sqrt()

    def mean_norm(self) -> torch.Tensor:
        """float32 [in_features]: mean of the norm over samples."""
        import torch

        return torch.cat(self.norms).mean(dim=0)

    def variance(self) -> torch.Tensor:
        """float32 [in_features]: variance over tokens, at least 0."""
        import torch

        mean = torch.as_tensor(self.total) / self.tokens
        return (torch.cat(self.norms).square().sum(dim=0) / self.tokens - mean.square()).clamp(min=0)

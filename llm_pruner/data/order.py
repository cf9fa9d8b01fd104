"""The order of training samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def sample_order(samples: int, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Indices of the samples of every batch: int64 of ``shape``, one random order of all samples after the other.

    Epochs follow each other without a gap, so every batch is full.

    Args:
        shape: updates first, the samples of a batch last.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    epochs = max(1, math.ceil(math.prod(shape) / samples))
    order = torch.cat([torch.randperm(samples, generator=generator) for _ in range(epochs)])
    return order[: math.prod(shape)].view(shape)

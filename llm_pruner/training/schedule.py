"""The learning rate over a training."""

from __future__ import annotations

import math
from typing import Literal


def rate(step: int, steps: int, warmup: float, schedule: Literal["linear", "cosine"] = "linear") -> float:
    """Share of the peak learning rate at an update, counted from 0: up over the warm-up, then down to zero.

    The first update has a rate above zero, and the last update of the warm-up has the peak.

    Args:
        warmup: share of the updates in which the rate rises.
        schedule: shape of the fall.

    >>> [rate(step, 10, 0.2) for step in (0, 1, 2, 6)]
    [0.5, 1.0, 1.0, 0.5]
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    left = (steps - step) / (steps - rising)
    return left if schedule == "linear" else (1 - math.cos(math.pi * left)) / 2

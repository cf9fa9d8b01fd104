"""Learning rates over a training. Needs no torch."""

from __future__ import annotations


def linear(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at an update, counted from 0: up over the warm-up, then down to zero.

    Args:
        steps: updates in all.
        warmup: share of them in which the rate rises; its first update has a part of the peak, not zero.

    >>> [linear(step, 10, 0.2) for step in (0, 1, 2, 6)]
    [0.5, 1.0, 1.0, 0.5]
    """
    rising = round(warmup * steps)
    return (step + 1) / rising if step < rising else (steps - step) / max(1, steps - rising)

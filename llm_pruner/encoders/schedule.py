"""Schedules of the pruned share during a training, as a fraction of its final value."""

from __future__ import annotations

import math
from typing import Any

from llm_pruner.encoders.options import PruningOptions


def polynomial(update: int, start: int, final: int, power: float = 3.0) -> float:
    """1 − (1 − t)^power; t rises from 0 at ``start`` to 1 at ``final`` (Zhu & Gupta, 2017, arXiv:1710.01878).

    >>> polynomial(5, 0, 10)
    0.875
    """
    return 1 - (1 - _progress(update, start, final)) ** power


def cosine(update: int, start: int, final: int) -> float:
    """(1 − cos πt) / 2; t as in ``polynomial``.

    >>> round(cosine(5, 0, 10), 9)
    0.5
    """
    return (1 - math.cos(math.pi * _progress(update, start, final))) / 2


def _progress(update: int, start: int, final: int) -> float:
    return min(1.0, max(0.0, (update - start) / max(1, final - start)))


class Schedule:
    """Schedule of the pruned share; the ``dynamic`` one follows validation accuracy."""

    def __init__(self, options: PruningOptions, final_update: int) -> None:
        self.options = options
        self.final_update = final_update
        self.scale = 1.0
        self.reference: float | None = None

    def share(self, update: int) -> float:
        """Fraction of the final pruned share at an update, from 0 to 1."""
        options = self.options
        if options.schedule == "polynomial":
            return polynomial(update, options.start_step, self.final_update, options.power)
        return self.scale * cosine(update, options.start_step, self.final_update)

    def checked(self, accuracy: float) -> None:
        """Adapt to a validation accuracy. The first accuracy is the reference for all later ones."""
        options = self.options
        if self.reference is None:
            self.reference = accuracy
        elif accuracy < self.reference - options.tolerance:
            self.scale *= options.backoff
        else:
            self.scale = min(1.0, self.scale / options.backoff)

    def state(self) -> dict[str, Any]:
        """State for a resume point."""
        return {"scale": self.scale, "reference": self.reference}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a result of ``state``."""
        self.scale, self.reference = state["scale"], state["reference"]

"""How the sparsity of a model in training rises, as a share of its final value."""

from __future__ import annotations

import math
from typing import Any

from llm_pruner.encoders.options import PruningOptions


def polynomial(step: int, start: int, final: int, power: float = 3.0) -> float:
    """1 − (1 − t)^power, t going from 0 at ``start`` to 1 at ``final`` (Zhu & Gupta, 2017, arXiv:1710.01878).

    >>> polynomial(5, 0, 10)
    0.875
    """
    return 1 - (1 - _progress(step, start, final)) ** power


def cosine(step: int, start: int, final: int) -> float:
    """(1 − cos πt) / 2, slow at both ends.

    >>> round(cosine(5, 0, 10), 9)
    0.5
    """
    return (1 - math.cos(math.pi * _progress(step, start, final))) / 2


def _progress(step: int, start: int, final: int) -> float:
    return min(1.0, max(0.0, (step - start) / max(1, final - start)))


class Schedule:
    """The share of the final sparsity that is due, and what validation accuracy does to it."""

    def __init__(self, options: PruningOptions, final_step: int) -> None:
        self.options = options
        self.final_step = final_step
        self.scale = 1.0
        self.reference: float | None = None

    def share(self, step: int) -> float:
        """Between 0 and 1."""
        options = self.options
        if options.schedule == "polynomial":
            return polynomial(step, options.start_step, self.final_step, options.power)
        return self.scale * cosine(step, options.start_step, self.final_step)

    def checked(self, accuracy: float) -> None:
        """The first accuracy is what later ones are compared with."""
        options = self.options
        if self.reference is None:
            self.reference = accuracy
        elif accuracy < self.reference - options.tolerance:
            self.scale *= options.backoff
        else:
            self.scale = min(1.0, self.scale / options.backoff)

    def state(self) -> dict[str, Any]:
        return {"scale": self.scale, "reference": self.reference}

    def restore(self, state: dict[str, Any]) -> None:
        self.scale, self.reference = state["scale"], state["reference"]

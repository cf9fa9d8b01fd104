from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from llm_pruner.planning.allocations.base import Allocation


class Uniform(Allocation):
    """Makes every layer lose at the same rate."""

    title = "All layers lose at one rate"
    mechanisms: ClassVar[tuple[str, ...]] = ("width", "sparse")

    def targets(self, ratio: float, num_layers: int, scores: Sequence[float] | None = None) -> list[float]:
        return [1.0] * num_layers

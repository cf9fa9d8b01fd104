"""What the allocations by layer importance share."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from pydantic import Field, PositiveInt

from llm_pruner.planning.allocations.base import Allocation, Ranking
from llm_pruner.system.options import Options


class ImportanceOptions(Options):
    alpha: float = Field(default=1.0, gt=0)
    """Power of the normalised importance: larger values set the most important layers further apart."""
    log: bool = True
    """Use the logarithm of importance, so that one outlier does not flatten the differences between the rest."""
    importance: str = "Ablation"
    """The method whose layer scores say how important a layer is, any that prunes by depth: ``Ablation`` by removal,
    ``Activation`` by activation."""
    importance_samples: PositiveInt | None = None
    """Measure importance on the first n calibration samples; all of them by default."""

    @property
    def ranking(self) -> Ranking:
        """The layer scores that are asked for."""
        return Ranking(self.importance, {} if self.importance_samples is None else {"samples": self.importance_samples})


class ByImportance(Allocation):
    """Importance is shifted and scaled to 0 … 1 and raised to ``alpha``.

    The logarithm is of 1 + importance in units of the middle layer above the least important one, so it is the same for
    losses, perplexities and norms.
    """

    mechanisms = ("width",)
    needs = ("importance",)
    Options = ImportanceOptions
    options: ImportanceOptions

    @property
    def ranking(self) -> Ranking:
        return self.options.ranking

    def normalised(self, importance: Sequence[float]) -> list[float] | None:
        """Importance from 0 to 1; None where all layers are equally important."""
        if max(importance) == min(importance):
            return None
        shifted = [value - min(importance) for value in importance]
        if self.options.log:
            unit = statistics.median(value for value in shifted if value > 0)
            shifted = [math.log1p(value / unit) for value in shifted]
        return [(value / max(shifted)) ** self.options.alpha for value in shifted]

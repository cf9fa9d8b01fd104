"""Shared parts of the allocations by layer importance."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from pydantic import Field

from llm_pruner.planning.allocations.base import Allocation, Ranking
from llm_pruner.system.options import Count, Options


class ImportanceOptions(Options):
    """Options of the allocations by layer importance."""

    alpha: float = Field(default=1.0, gt=0)
    """Power of the normalised importance: larger values set the most important layers further apart."""
    log: bool = True
    """Use the logarithm of importance, so that one outlier does not flatten the differences between the rest."""
    importance: str = "Ablation"
    """Method whose layer scores are the importance: any method that prunes by depth, such as ``Ablation`` (loss after
    removal) or ``Activation`` (norm of the output)."""
    importance_samples: Count | None = None
    """Measure importance on the first n calibration samples; all by default."""

    @property
    def ranking(self) -> Ranking:
        """The layer scores that the options name."""
        return Ranking(self.importance, {} if self.importance_samples is None else {"samples": self.importance_samples})


class ByImportance(Allocation):
    """Uses layer importance, shifted and scaled to 0 … 1 and raised to ``alpha``.

    The logarithm is log(1 + d / m), with d the importance above that of the least important layer and m the median of
    all d above 0. Any unit of importance (loss, perplexity, norm) thus gives the same result.
    """

    mechanisms = ("width",)
    needs = ("importance",)
    Options = ImportanceOptions
    options: ImportanceOptions

    @property
    def ranking(self) -> Ranking:
        return self.options.ranking

    def normalised(self, importance: Sequence[float]) -> list[float] | None:
        """Importance from 0 to 1, one value for each layer; None if all layers are equally important."""
        if max(importance) == min(importance):
            return None
        shifted = [value - min(importance) for value in importance]
        if self.options.log:
            unit = statistics.median(value for value in shifted if value > 0)
            shifted = [math.log1p(value / unit) for value in shifted]
        return [(value / max(shifted)) ** self.options.alpha for value in shifted]

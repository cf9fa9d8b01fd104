from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import PositiveFloat

from llm_pruner.planning.allocations.base import Allocation, Ranking
from llm_pruner.system.options import Count, Options


class BiOptions(Options):
    """Options of the allocation by block influence."""

    temperature: PositiveFloat = 0.1
    """Temperature of the softmax: this much more block influence divides a layer's loss by e. Larger values make layers
    more alike."""
    samples: Count | None = None
    """Measure on the first n calibration samples; all by default."""


class Bi(Allocation):
    """Makes layers lose by the softmax of their negative block influence, the score of ``ShortGPT``."""

    title = "Layers with less block influence lose more"
    paper = "Lin et al., MoDeGPT: Modular Decomposition for Large Language Model Compression, 2024 (arXiv:2408.09632)"
    mechanisms = ("width", "sparse")
    needs = ("block influence",)
    Options = BiOptions
    options: BiOptions

    @property
    def ranking(self) -> Ranking:
        return Ranking("ShortGPT", self.options.model_dump(include={"samples"}))

    def targets(self, ratio: float, num_layers: int, scores: Sequence[float] | None = None) -> list[float]:
        """
        >>> [round(target, 3) for target in Bi(temperature=0.5).targets(0.2, 3, [0.1, 0.6, 0.35])]
        [1.0, 0.368, 0.607]
        """
        assert scores is not None
        return [math.exp((min(scores) - score) / self.options.temperature) for score in scores]

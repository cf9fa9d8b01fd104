from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from llm_pruner.planning.allocations.base import Allocation, Ranking, spread_around
from llm_pruner.system.options import Count, Options


class DlpOptions(Options):
    """Options of the allocation by mean scores."""

    spread: float = Field(default=0.15, gt=0, lt=0.5)
    """Half of the difference between the largest and the smallest ratio of a layer. The paper uses 0.15 for 70 % zeros,
    0.1 for 60 % and 0.04 for 50 %."""
    samples: Count | None = None
    """Measure on the first n calibration samples; all by default."""


class Dlp(Allocation):
    """Makes layers with a larger mean of the scores |W|·‖X‖ lose more, linearly in the mean.

    The paper names the median; its published code uses the mean, as here.
    """

    title = "Layers of larger mean score lose more"
    paper = "Chen et al., DLP: Dynamic Layerwise Pruning in Large Language Models, 2025 (arXiv:2505.23807)"
    mechanisms = ("sparse",)
    needs = ("mean score",)
    Options = DlpOptions
    options: DlpOptions

    @property
    def ranking(self) -> Ranking:
        measure = "llm_pruner.methods.measures.mean_saliency:MeanSaliency"
        return Ranking("MeanSaliency", self.options.model_dump(include={"samples"}), measure)

    def targets(self, ratio: float, num_layers: int, scores: Sequence[float] | None = None) -> list[float]:
        assert scores is not None
        return spread_around(ratio, [-score for score in scores], self.options.spread)

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, PositiveFloat

from llm_pruner.planning.allocations.base import Allocation, Ranking, spread_around
from llm_pruner.system.options import Count, Options


class OwlOptions(Options):
    """Options of the allocation by outliers."""

    spread: float = Field(default=0.08, gt=0, lt=0.5)
    """Half of the difference between the largest and the smallest ratio of a layer."""
    threshold: PositiveFloat = 5.0
    """A score above this multiple of the layer's mean score is an outlier."""
    samples: Count | None = None
    """Measure on the first n calibration samples; all by default."""


class Owl(Allocation):
    """Makes layers with more outliers among their scores |W|·‖X‖ lose less, linearly in the share of outliers."""

    title = "Layers with more outliers lose less"
    paper = (
        "Yin et al., Outlier Weighed Layerwise Sparsity (OWL): A Missing Secret Sauce for Pruning LLMs to High "
        "Sparsity, 2023 (arXiv:2310.05175)"
    )
    mechanisms = ("sparse",)
    needs = ("share of outliers",)
    Options = OwlOptions
    options: OwlOptions

    @property
    def ranking(self) -> Ranking:
        measure = "llm_pruner.methods.measures.outliers:Outliers"
        return Ranking("Outliers", self.options.model_dump(include={"threshold", "samples"}), measure)

    def targets(self, ratio: float, num_layers: int, scores: Sequence[float] | None = None) -> list[float]:
        assert scores is not None
        return spread_around(ratio, scores, self.options.spread)

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from llm_pruner.planning.allocations.base import Allocation, Ranking
from llm_pruner.system.options import Options


class AlphaOptions(Options):
    """Options of the allocation by spectral tails."""

    spread: float = Field(default=0.3, gt=0, lt=1)
    """Targets lie between 1 − spread and 1 + spread, before the budget scales them to the requested ratio."""
    tail: Literal["peak", "median"] = "peak"
    """First eigenvalue of the tail: the best fit near the ``peak`` of the histogram, or the ``median``."""


class Alpha(Allocation):
    """Makes layers with a lighter spectral tail lose more, linearly in the tail's exponent. Needs no data."""

    title = "Layers with a lighter spectral tail lose more"
    paper = (
        "Lu et al., AlphaPruning: Using Heavy-Tailed Self Regularization Theory for Improved Layer-wise Pruning of "
        "Large Language Models, 2024 (arXiv:2410.10912)"
    )
    mechanisms = ("sparse",)
    needs = ("tail exponent",)
    Options = AlphaOptions
    options: AlphaOptions

    @property
    def ranking(self) -> Ranking:
        measure = "llm_pruner.methods.measures.tail_exponent:TailExponent"
        return Ranking("TailExponent", self.options.model_dump(include={"tail"}), measure)

    def targets(self, ratio: float, num_layers: int, scores: Sequence[float] | None = None) -> list[float]:
        """
        >>> Alpha(spread=0.25).targets(0.7, 3, [2.0, 3.0, 4.0])
        [0.75, 1.0, 1.25]
        """
        assert scores is not None
        low, high = min(scores), max(scores)
        if low == high:
            return [1.0] * num_layers
        spread = self.options.spread
        return [1 - spread + 2 * spread * (score - low) / (high - low) for score in scores]

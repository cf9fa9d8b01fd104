from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from llm_pruner.planning.allocations.base import Allocation, Ranking
from llm_pruner.system.options import Options


class AlphaOptions(Options):
    spread: float = Field(default=0.3, gt=0, lt=1)
    """Ratios lie between 1 − spread and 1 + spread, before they are scaled to the ratio asked for."""
    tail: Literal["peak", "median"] = "peak"
    """Where the tail of the eigenvalues begins: around the ``peak`` of their histogram, where the fit is best, or at
    their ``median``."""


class Alpha(Allocation):
    """Layers whose weights have a lighter spectral tail lose more, linearly in its exponent. Needs no data."""

    title = "Layers of a lighter spectral tail more"
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

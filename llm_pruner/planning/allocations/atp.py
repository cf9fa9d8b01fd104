from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from llm_pruner.planning.allocations.base import Allocation
from llm_pruner.system.options import Options


class AtpOptions(Options):
    """Options of the arithmetic progression."""

    slope: float = Field(default=0.5, ge=0, le=1)
    """Difference between the ratios of neighbouring layers, as a share of the largest difference that keeps every ratio
    within 0 … 1."""


class Atp(Allocation):
    """Gives layers ratios in arithmetic progression: later layers lose more.

    The paper searches for the step of the progression; here the step is an option.
    """

    title = "Later layers more, in equal steps"
    paper = (
        "Huang et al., Determining Layer-wise Sparsity for Large Language Models Through a Theoretical Perspective, "
        "2025 (arXiv:2502.14770)"
    )
    mechanisms = ("sparse",)
    Options = AtpOptions
    options: AtpOptions

    def targets(self, ratio: float, num_layers: int, scores: Sequence[float] | None = None) -> list[float]:
        """
        >>> Atp(slope=1).targets(0.75, 3)
        [0.5, 0.75, 1.0]
        """
        half = self.options.slope * min(ratio, 1 - ratio)
        middle = (num_layers - 1) / 2
        return [ratio + half * (index - middle) / (middle or 1) for index in range(num_layers)]

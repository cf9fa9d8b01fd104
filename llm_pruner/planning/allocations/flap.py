from __future__ import annotations

import statistics
from collections.abc import Sequence

from llm_pruner.planning.allocations.uniform import Uniform
from llm_pruner.system.options import Options


class FlapAllocationOptions(Options):
    """Options of the ranking by standardised scores."""

    standardise: bool = True
    """Divide by the standard deviation of the layer's scores. ``FLAP`` sets false: its scores are already divided by
    the standard deviation of single columns."""


class Flap(Uniform):
    """Ranks the units of all layers together by their scores, standardised within each layer.

    Key-value groups and MLP channels each have their own mean and standard deviation in a layer. The ranking ignores
    the parameters of a unit; the budget counts them.
    """

    title = "Units of all layers ranked together by score, standardised within each layer"
    paper = (
        "An et al., Fluctuation-based Adaptive Structured Pruning for Large Language Models, 2023 (arXiv:2312.11983)"
    )
    mechanisms = ("width",)
    ranks_units = True
    per_parameter = False
    Options = FlapAllocationOptions
    options: FlapAllocationOptions

    def compared(self, scores: Sequence[float]) -> list[float]:
        """
        >>> Flap().compared([1.0, 2.0, 3.0])
        [-1.0, 0.0, 1.0]
        >>> Flap().compared([5.0, 5.0]), Flap().compared([5.0])
        ([0.0, 0.0], [0.0])
        """
        mean = statistics.fmean(scores)
        spread = statistics.stdev(scores) if self.options.standardise and len(scores) > 1 else 1.0
        return [(score - mean) / (spread or 1.0) for score in scores]

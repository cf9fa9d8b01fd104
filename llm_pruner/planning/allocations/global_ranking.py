from __future__ import annotations

from llm_pruner.planning.allocations.uniform import Uniform


class GlobalRanking(Uniform):
    """Key-value groups and MLP channels of all layers are ranked together by score per parameter; the lowest go."""

    title = "Units of all layers ranked together by score per parameter"
    mechanisms = ("width",)
    ranks_units = True

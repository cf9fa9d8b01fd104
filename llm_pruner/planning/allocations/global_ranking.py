from __future__ import annotations

from llm_pruner.planning.allocations.uniform import Uniform


class GlobalRanking(Uniform):
    """Ranks the key-value groups and MLP channels of all layers together and removes the lowest score per parameter."""

    title = "Units of all layers ranked together by score per parameter"
    mechanisms = ("width",)
    ranks_units = True

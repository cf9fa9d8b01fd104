"""Files of scores of key-value groups and MLP channels."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from llm_pruner.mechanisms.records import LayerEntry, ScoresFile

if TYPE_CHECKING:
    from llm_pruner.models.architecture import LayerShape


class GroupEntry(LayerEntry):
    """The scores of one layer's units; higher is more important."""

    attention: tuple[float, ...]
    """One score for each key-value group."""
    mlp: tuple[float, ...]
    """One score for each MLP channel."""

    def values(self) -> list[float]:
        return [*self.attention, *self.mlp]

    def problems_with(self, shape: LayerShape) -> list[str]:
        asked, held = (shape.key_value_groups, shape.channels), (len(self.attention), len(self.mlp))
        if asked == held:
            return []
        return [f"{asked[0]} key-value groups and {asked[1]} channels, but scores for {held[0]} and {held[1]}"]

    def series(self) -> dict[str, float]:
        return {"attention": statistics.fmean(self.attention), "MLP": statistics.fmean(self.mlp)}


class GroupScoresFile(ScoresFile):
    """Scores of key-value groups and MLP channels."""

    layers: tuple[GroupEntry, ...]
    """One entry for each layer of the base, in order."""

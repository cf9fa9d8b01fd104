"""Files of scores of key-value groups and MLP channels."""

from __future__ import annotations

import statistics

from llm_pruner.mechanisms.records import LayerEntry, ScoresFile


class GroupEntry(LayerEntry):
    """The scores of one layer's units; higher is more important."""

    attention: tuple[float, ...]
    """One score for each key-value group."""
    mlp: tuple[float, ...]
    """One score for each MLP channel."""

    def values(self) -> list[float]:
        return [*self.attention, *self.mlp]

    def series(self) -> dict[str, float]:
        return {"attention": statistics.fmean(self.attention), "MLP": statistics.fmean(self.mlp)}


class GroupScoresFile(ScoresFile):
    """Scores of key-value groups and MLP channels."""

    layers: tuple[GroupEntry, ...]
    """One entry for each layer of the base, in order."""

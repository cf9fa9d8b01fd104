"""Measures of layers that allocations of zeros go by, as files."""

from __future__ import annotations

from llm_pruner.mechanisms.records import LayerEntry, ScoresFile


class MeasuredEntry(LayerEntry):
    """The measure of one layer."""

    score: float
    """What the allocation goes by."""

    def values(self) -> list[float]:
        return [self.score]

    def series(self) -> dict[str, float]:
        return {"score": self.score}


class MeasuresFile(ScoresFile):
    """Measures of the layers of the dense model."""

    layers: tuple[MeasuredEntry, ...]
    """One entry a layer of the base, in order."""

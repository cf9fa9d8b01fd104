"""Files of layer measures, for allocations of zeros."""

from __future__ import annotations

from llm_pruner.mechanisms.records import LayerEntry, ScoresFile


class MeasuredEntry(LayerEntry):
    """The measure of one layer."""

    score: float
    """Value of the measure, for the allocation."""

    def values(self) -> list[float]:
        return [self.score]

    def series(self) -> dict[str, float]:
        return {"score": self.score}


class MeasuresFile(ScoresFile):
    """Measures of the layers of the dense model."""

    layers: tuple[MeasuredEntry, ...]
    """One entry for each layer of the base, in order."""

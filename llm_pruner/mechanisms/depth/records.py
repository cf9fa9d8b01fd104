"""Files of layer scores."""

from __future__ import annotations

from pydantic import ConfigDict

from llm_pruner.mechanisms.records import Evaluations, LayerEntry, ScoresFile


class RankedEntry(LayerEntry):
    """The score of one layer. A method may add further values for its selection."""

    model_config = ConfigDict(extra="allow")

    score: float
    """Higher is more important."""

    def values(self) -> list[float]:
        return [self.score]

    def series(self) -> dict[str, float]:
        return {"score": self.score}


class LayerScoresFile(ScoresFile):
    """Scores of layers, or of their attention or MLP blocks."""

    layers: tuple[RankedEntry, ...]
    """One entry for each layer of the base, in order."""
    layer_evaluations: Evaluations
    """Layer evaluations of the scoring."""

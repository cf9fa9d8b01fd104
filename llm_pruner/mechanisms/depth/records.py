"""Files of layer scores."""

from __future__ import annotations

import math
from typing import Any, Self

from pydantic import ConfigDict, model_validator

from llm_pruner.mechanisms.records import Evaluations, LayerEntry, ScoresFile


class RankedEntry(LayerEntry):
    """The score of one layer. A method may add further values for its selection."""

    model_config = ConfigDict(extra="allow")

    score: float
    """Higher is more important."""

    @model_validator(mode="after")
    def _is_finite(self) -> Self:
        found: list[Any] = list((self.model_extra or {}).items())
        while found:
            key, value = found.pop()
            if isinstance(value, list):
                found += [(key, each) for each in value]
            elif isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{key}: must be finite, not {value}")
        return self

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

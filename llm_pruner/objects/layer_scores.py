"""Scores of layers, as pruners return and accept them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llm_pruner.system.errors import DataError

if TYPE_CHECKING:
    Scores = Mapping[int, float] | Sequence[Mapping[str, Any]]


class LayerScores(Mapping[int, float]):
    """Scores by layer index; higher is more important. ``entries`` also has further evidence of a method.

    Args:
        entries: for each layer its ``index``, its ``score``, and other values that the selection uses.

    Raises:
        DataError: if an entry lacks an index or a score, or one of these is not a number.
    """

    def __init__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        try:
            whole = [{**entry, "index": int(entry["index"]), "score": float(entry["score"])} for entry in entries]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"scores must be a mapping from layer to number, or entries with 'index' and 'score' ({error!r})"
            ) from None
        self.entries: list[dict[str, Any]] = whole
        self._scores: dict[int, float] = {entry["index"]: entry["score"] for entry in whole}

    @classmethod
    def of(cls, scores: Scores) -> LayerScores:
        """Scores from ``LayerScores``, a mapping from layer to number, or entries.

        Raises:
            DataError: for scores in another form.
        """
        if isinstance(scores, LayerScores):
            return scores
        if isinstance(scores, Mapping):
            return cls([{"index": index, "score": score} for index, score in scores.items()])
        return cls(scores)

    def __getitem__(self, layer: int) -> float:
        return self._scores[layer]

    def __iter__(self) -> Iterator[int]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)

    def __repr__(self) -> str:
        return f"LayerScores({self._scores})"

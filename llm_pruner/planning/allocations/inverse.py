from __future__ import annotations

from collections.abc import Sequence

from llm_pruner.planning.allocations.importance import ByImportance


class Inverse(ByImportance):
    """Makes important layers lose less: the target is 1 − normalised importance, 0 for the most important layer."""

    title = "Important layers less"

    def targets(self, ratio: float, num_layers: int, scores: Sequence[float] | None = None) -> list[float]:
        """
        >>> Inverse(log=False).targets(0.2, 3, [1.0, 2.0, 3.0])
        [1.0, 0.5, 0.0]
        """
        assert scores is not None
        normalised = self.normalised(scores)
        return [1.0] * num_layers if normalised is None else [1.0 - value for value in normalised]

from __future__ import annotations

from collections.abc import Sequence

from llm_pruner.planning.allocations.importance import ByImportance


class Proportional(ByImportance):
    """Makes important layers lose more, as a control of ``inverse``: the target is the normalised importance."""

    title = "Important layers more, a control"

    def targets(self, ratio: float, num_layers: int, scores: Sequence[float] | None = None) -> list[float]:
        """
        >>> Proportional(log=False).targets(0.2, 3, [1.0, 2.0, 3.0])
        [0.0, 0.5, 1.0]
        """
        assert scores is not None
        return self.normalised(scores) or [1.0] * num_layers

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from pydantic import NonNegativeFloat

from llm_pruner.methods.sleb import RemovalOptions, RemovalOrder
from llm_pruner.system.errors import DataError


class SmartOptions(RemovalOptions):
    """Options of removal with a check."""

    tolerance: NonNegativeFloat = 0.05
    """Largest rise of perplexity from the removal of one layer, as a share. A layer above it is restored."""


class Smart(RemovalOrder):
    """Tries layers in the order of the loss without them, and restores a layer if perplexity rises by more than the
    tolerance. Each removal renews all scores, on the remaining model.

    Scores use every other calibration sample, checks the samples between them: on the same samples, no later candidate
    could pass after the first failed. If no layer passes, the layer with the lowest loss in the check is removed
    anyway, and variants without this layer carry a note.
    """

    name = "Smart"
    title = "Layers whose removal raises the loss least, restored if other samples disagree"
    paper = ""
    Options = SmartOptions
    options: SmartOptions

    def choose(self, layers: Sequence[int], before: list[float], without: list[list[float]]) -> dict[str, Any]:
        """The next layer to remove, with ``restored``, the candidates that failed before it, and ``within_tolerance``.

        ``loss`` is that of the samples of the check.

        Raises:
            DataError: for fewer than two samples.
        """
        if len(before) < 2:
            raise DataError(f"{self.name} needs at least two calibration samples: one half scores, the other checks")
        scores = {index: fmean(losses[::2]) for index, losses in zip(layers, without, strict=True)}
        checks = {index: fmean(losses[1::2]) for index, losses in zip(layers, without, strict=True)}
        highest = fmean(before[1::2]) + math.log1p(self.options.tolerance)
        candidates = sorted(layers, key=lambda index: (scores[index], -index))
        accepted = next((index for index in candidates if checks[index] <= highest), None)
        chosen = min(candidates, key=checks.__getitem__) if accepted is None else accepted
        tried = candidates if accepted is None else candidates[: candidates.index(accepted)]
        return {
            "index": chosen,
            "loss": checks[chosen],
            "within_tolerance": accepted is not None,
            "restored": [index for index in tried if index != chosen],
        }

    def problems_with(self, entry: Mapping[str, Any], num_layers: int) -> list[str]:
        within = entry.get("within_tolerance")
        wrong = "loss" in entry and not isinstance(within, bool)
        told = [f"within_tolerance: must be true or false, not {within!r}"] if wrong else []
        return [*super().problems_with(entry, num_layers), *told]

    def notes(self, removed: Sequence[Mapping[str, Any]]) -> list[str]:
        forced = [str(entry["index"]) for entry in removed if not entry["within_tolerance"]]
        if not forced:
            return []
        return [
            f"layer{'s' if len(forced) > 1 else ''} {', '.join(forced)} removed although perplexity rose by more than "
            f"{self.options.tolerance:.2%}: no layer was within the tolerance"
        ]

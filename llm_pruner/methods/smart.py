from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from pydantic import NonNegativeFloat

from llm_pruner.methods.sleb import RemovalOptions, RemovalOrder
from llm_pruner.system.errors import DataError


class SmartOptions(RemovalOptions):
    tolerance: NonNegativeFloat = 0.05
    """A layer is restored if the perplexity without it is higher than before by more than this share."""


class Smart(RemovalOrder):
    """Layers are tried from the least important on, by the increase of loss when bypassed, and put back if perplexity
    rises by more than the tolerance; after each removal all scores are taken anew on the model that is left.

    The scores are of every other calibration sample and the check is on those between: on the same samples no later
    candidate could pass where the first does not. Where none is within the tolerance the one with the lowest checked
    loss goes nevertheless, and the variants that need it say so.
    """

    name = "Smart"
    title = "Layers whose removal costs least loss, put back if other samples disagree"
    paper = ""
    Options = SmartOptions
    options: SmartOptions

    def choose(self, layers: Sequence[int], before: list[float], without: list[list[float]]) -> dict[str, Any]:
        """Also ``restored``: candidates tried before, and ``within_tolerance``; ``loss`` is of the checked samples."""
        if len(before) < 2:
            raise DataError(f"{self.name} needs two calibration samples or more: some to score by, others to check")
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

    def notes(self, removed: Sequence[Mapping[str, Any]]) -> list[str]:
        forced = [str(entry["index"]) for entry in removed if not entry["within_tolerance"]]
        if not forced:
            return []
        return [
            f"layer{'s' if len(forced) > 1 else ''} {', '.join(forced)} went although perplexity rose by more than "
            f"{self.options.tolerance:.2%}: no layer was within the tolerance"
        ]

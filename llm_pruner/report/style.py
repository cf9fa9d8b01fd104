"""One look for every chart, in figures and in the workbook: a method's colour and marker, and where an axis is cut."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from llm_pruner.report.table import Results

# Okabe and Ito's palette, told apart with every common colour vision; its yellow is too pale on white.
PALETTE = {
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "sky blue": "#56B4E9",
    "orange": "#E69F00",
    "violet": "#7F5AA8",
    "brown": "#8C564B",
}
_COLOURS = tuple(PALETTE.values())
# Their number and that of the colours share no factor, so 56 methods look different.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
UNKNOWN = "unknown"
"""Stands for the method of a model whose pruning.json is missing."""
CONTROLS = frozenset({"Random"})
"""Methods that show what chance does; what is no better has learnt nothing."""


@dataclass(frozen=True)
class Style:
    """How a method is drawn."""

    colour: str
    """``#RRGGBB``."""
    marker: str
    """Name of a matplotlib marker."""


def method_styles(methods: Iterable[str]) -> dict[str, Style]:
    """A style for each method by order of first appearance; pass the same methods to get the same styles."""
    return {
        method: Style(_COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)])
        for index, method in enumerate(dict.fromkeys(methods))
    }


_BASE = Style("#222222", "*")


def run_styles(results: Results, more: Iterable[str] = ()) -> dict[str, Style]:
    """The styles of all methods of a run, the base in black, and then of ``more`` methods."""
    pruned = [model.method or UNKNOWN for model in results.models if model.name != results.base.name]
    return {**method_styles([*pruned, *more]), results.base.method or UNKNOWN: _BASE}


def mechanism_colours(mechanisms: Iterable[str]) -> dict[str, str | None]:
    """A colour for each mechanism by its place in their registry; none for the first, the base itself."""
    base, *others = mechanisms
    return {base: None, **{name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(others)}}


def ceiling(costs: Sequence[float]) -> float:
    """Where to cut an axis of perplexities or shares of wrong answers, so that a few models far off do not press all
    others into a line.

    A little above the highest cost that is not far off; infinite if none is. Far off is more than three times
    as far above the upper quartile as that is above the best.

    >>> ceiling([10, 11, 12, 14, 5000])
    15.4
    """
    if not costs:
        return math.inf
    quartile = float(np.quantile(costs, 0.75))
    limit = quartile + 3 * (quartile - min(costs))
    shown = [value for value in costs if value <= limit]
    return math.inf if len(shown) == len(costs) else round(1.1 * max(shown), 9)

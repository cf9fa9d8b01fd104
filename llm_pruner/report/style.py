"""The common look of charts in figures and in the workbook: colours and markers of methods, and limits of axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from llm_pruner.report.table import Results

# Okabe and Ito's palette, readable with every common colour vision, without its yellow, which is too pale on white.
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
# The numbers of markers and of colours share no factor, so 56 methods look different.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
UNKNOWN = "unknown"
"""Method of a model whose pruning.json is missing."""
CONTROLS = frozenset({"Random"})
"""Control methods, which choose by chance. A method that is no better has no value."""


@dataclass(frozen=True)
class Style:
    """Colour and marker of a method."""

    colour: str
    """``#RRGGBB``."""
    marker: str
    """Name of a matplotlib marker."""


def method_styles(methods: Iterable[str]) -> dict[str, Style]:
    """A style for each method by order of first appearance. The same methods get the same styles."""
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
    """A colour for each mechanism by its place in the registry; None for the first place, the base itself."""
    base, *others = mechanisms
    return {base: None, **{name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(others)}}


def ceiling(costs: Sequence[float]) -> float:
    """Upper limit of an axis of perplexities or shares of wrong answers, so that a few outliers do not flatten the
    rest.

    The limit is a little above the highest cost that is no outlier, or infinite without outliers. An outlier is more
    than three times as far above the upper quartile as the upper quartile is above the best.

    >>> ceiling([10, 11, 12, 14, 5000])
    15.4
    """
    if not costs:
        return math.inf
    quartile = float(np.quantile(costs, 0.75))
    limit = quartile + 3 * (quartile - min(costs))
    shown = [value for value in costs if value <= limit]
    return math.inf if len(shown) == len(costs) else round(1.1 * max(shown), 9)

"""One look for every chart: a method has the same colour and marker wherever it appears."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_pruner.report.table import Results

# Okabe and Ito's palette, told apart with every common colour vision; its yellow is too pale on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F5AA8", "#8C564B")
# Their number and that of the colours share no factor, so 56 methods look different.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
UNKNOWN = "unknown"
"""Stands for the method of a model whose pruning.json is missing."""


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

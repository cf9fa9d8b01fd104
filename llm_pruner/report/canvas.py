"""The canvas of every figure: its size, its file, and the colours of elements that belong to no method."""

from __future__ import annotations

import os
import re
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter

from llm_pruner.report.style import PALETTE
from llm_pruner.system.files import staged_file

_DPI = 150
BLUE, VERMILION, ORANGE = PALETTE["blue"], PALETTE["vermilion"], PALETTE["orange"]
INK, QUIET, FAINT = "#222222", "#8A8A8A", "#C8C8C8"
"""Colours of text, of lines that lead the eye, and of the grid behind the data."""
GRID: dict[str, Any] = {"color": "#E3E3E3", "linewidth": 0.7}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, its size in inches, without pyplot and its global state."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain(axes: Axes) -> None:
    """Draw a faint grid behind the data, and no frame above and to the right."""
    axes.grid(**GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def keep_text(figure: Figure) -> None:
    """Let names hold any sign: no text between dollar signs is a formula, but for powers on a logarithmic axis."""
    axes = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    for axis in axes:
        formatter = axis.get_major_formatter()
        if isinstance(formatter, FixedFormatter):
            formatter.seq = [re.sub(r"(?<!\\)\$", r"\$", text) for text in formatter.seq]
    ticks = {text for axis in axes for text in axis.get_ticklabels()}
    for text in figure.findobj(Text):
        if text not in ticks:
            text.set_parse_math(False)


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a PNG that appears only when complete. The same numbers make the same file."""
    keep_text(figure)
    with staged_file(path) as staged:
        # no Software entry, which would hold matplotlib's version
        figure.savefig(staged, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})

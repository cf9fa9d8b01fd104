"""The canvas of every figure: its size, its file, and the colours of elements that belong to no method."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from llm_pruner.report.style import PALETTE
from llm_pruner.system.files import staged_file
from llm_pruner.system.ownership import MADE_BY

_DPI = 150
BLUE, VERMILION, ORANGE = PALETTE["blue"], PALETTE["vermilion"], PALETTE["orange"]
INK, QUIET, FAINT = "#222222", "#8A8A8A", "#C8C8C8"
"""Colours of text, of lines that lead the eye, and of the grid behind the data."""
GRID: dict[str, Any] = {"color": "#E3E3E3", "linewidth": 0.7}


def draw_with(module: str, subject: Any, path: Path) -> None:
    """Draw a subject with a figure's module. Names may hold any sign: no text between dollar signs is a formula."""
    with rc_context({"text.parse_math": False}):
        import_module(module).draw(subject, path)


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


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a PNG that appears only when complete. The same numbers make the same file."""
    with staged_file(path) as staged:
        # in place of matplotlib's version
        figure.savefig(staged, format="png", dpi=_DPI, facecolor="white", metadata={"Software": MADE_BY})

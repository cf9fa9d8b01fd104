"""Figure of the importance of each layer, by every score."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, MultipleLocator

from llm_pruner.mechanisms.records import ScoresFile
from llm_pruner.report.canvas import GRID, new_figure, save
from llm_pruner.report.style import run_styles
from llm_pruner.report.table import Results


def draw(results: Results, path: str | os.PathLike[str]) -> None:
    """Draw the importance of each layer: one panel for each score, one bar for each layer.

    A depth score has one value for each layer. A width score has two bars: the mean over the layer's key-value groups
    and the mean over its MLP channels. Each score is divided by its largest magnitude, since scores of different
    methods have different units.
    """
    scores = results.scores
    styles = run_styles(results, (score.method for score in scores))
    columns = min(3, max(1, len(scores)))
    rows = max(1, math.ceil(len(scores) / columns))
    layers = max((len(score.layers) for score in scores), default=8)
    figure = new_figure(columns * max(4.2, 0.16 * layers), 0.4 + 2.5 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, score in zip(panels, scores, strict=False):
        _draw_scores(axes, score, styles[score.method].colour)
    for axes in panels[len(scores) :]:
        axes.set_axis_off()
    figure.supxlabel("Layer", fontsize=10)
    figure.supylabel("Score relative to the largest", fontsize=10)
    save(figure, path)


def _draw_scores(axes: Axes, score: ScoresFile, colour: str) -> None:
    indices = np.array([layer.index for layer in score.layers])
    series = layer_series(score)
    width = 0.8 / len(series)
    for place, (name, values) in enumerate(series.items()):
        offset = (place - (len(series) - 1) / 2) * width
        axes.bar(
            indices + offset,
            values,
            width,
            color=colour,
            alpha=1 if place == 0 else 0.45,
            zorder=2,
            label=name,
        )
    axes.set_title(f"{score.id} ({score.mechanism})", fontsize=10, loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MultipleLocator(0.5))
    axes.axhline(0, color="#555555", linewidth=0.8, zorder=3)
    axes.set_ylim(min(0.0, *(value * 1.1 for values in series.values() for value in values)), 1.25)
    axes.grid(axis="y", **GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8, ncols=len(series), loc="upper right", borderaxespad=0.1)


def layer_series(score: ScoresFile) -> dict[str, list[float]]:
    """Normalised values by layer: ``{"score": ...}`` for a depth score, attention and MLP for a width score."""
    series = [layer.series() for layer in score.layers]
    return {part: _normalised([layer[part] for layer in series]) for part in series[0]}


def _normalised(values: Sequence[float]) -> list[float]:
    """Divide values by the largest magnitude; all zeros stay zeros."""
    largest = max((abs(value) for value in values), default=0.0)
    return [value / largest if largest else 0.0 for value in values]

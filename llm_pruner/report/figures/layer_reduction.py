"""Figure of the reduction of each layer, for every pruned model."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter

from llm_pruner.report.canvas import QUIET, new_figure, save
from llm_pruner.report.table import Results, best_first, layers_table

_ROWS = 60
"""Models in the figure at most."""


def draw(results: Results, path: str | os.PathLike[str]) -> None:
    """Draw the reduction of each layer: attention beside MLP, one row for each model, one column for each layer.

    The numbers are shares of non-zero parameters that were removed or zeroed, so that sparse and structured models
    share one scale. A row without an analysis stays grey. Healed models are left out, since they have the shapes of
    their parents. Of very many models, those of lowest perplexity are drawn, in the order of the run.
    """
    table = layers_table(results)
    pruned = [model for model in results.models if not model.parent and model.name != results.base.name]
    drawn = {model.name for model in best_first(pruned)[:_ROWS]}
    frame = table.frame[table.frame["variant"].isin(drawn)]
    layers = [column.title for column in table.columns if column.key.startswith("layer_")]
    names = list(dict.fromkeys(frame["variant"]))
    figure = new_figure(3.4 + 2 * max(3.2, 0.42 * len(layers)), 1.7 + 0.32 * max(len(names), 3))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, block in zip(panels, ("Attention", "MLP"), strict=True):
        shares = frame.loc[frame["block"] == block, [f"layer_{layer}" for layer in layers]]
        values = shares.to_numpy(dtype=float, na_value=np.nan).reshape(len(names), len(layers))
        image = _draw_heat(axes, values, layers, names)
        axes.set_title(block, fontsize=11)
        axes.set_xlabel("Layer of the base model")
    if len(drawn) < len(pruned):
        told = f"the {len(drawn)} of lowest perplexity of {len(pruned)} models"
        panels[0].set_title(told, loc="left", fontsize=9, color=QUIET)
    bar = figure.colorbar(image, ax=list(panels), fraction=0.03, pad=0.02)
    bar.set_label("Removed or zeroed")
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    bar.outline.set_visible(False)
    save(figure, path)


def _draw_heat(axes: Axes, values: np.ndarray, layers: Sequence[str], names: Sequence[str]) -> AxesImage:
    axes.set_facecolor("#DDDDDD")
    if not values.size:
        values = np.full((max(len(names), 1), 1), np.nan)  # nothing analysed yet: all grey
    rows, columns = values.shape
    image = axes.imshow(
        values, cmap="Blues", vmin=0, vmax=1, aspect="auto", extent=(-0.5, columns - 0.5, rows - 0.5, -0.5)
    )
    step = max(1, math.ceil(columns / 16))
    axes.set_xticks(range(0, len(layers), step), layers[::step])
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for edge in range(1, rows):
        axes.axhline(edge - 0.5, color="white", linewidth=1.5)
    for edge in range(1, columns):
        axes.axvline(edge - 0.5, color="white", linewidth=1.5 if step == 1 else 0.4)
    if step == 1:
        for row, column in zip(*np.nonzero(values >= 0.0005), strict=True):
            share = values[row, column]
            axes.text(
                column,
                row,
                f"{100 * share:.0f}",
                ha="center",
                va="center",
                fontsize=7.5,
                color="white" if share > 0.55 else "#333333",
            )
    return image

"""Figure of the importance of each layer, and of its loss in width or zeros."""

from __future__ import annotations

import os
from collections import defaultdict

import numpy as np
from matplotlib.ticker import FuncFormatter, LogFormatter, MaxNLocator

from llm_pruner.mechanisms import get_mechanism
from llm_pruner.report.canvas import GRID, QUIET, new_figure, save
from llm_pruner.report.figures.layer_scores import layer_series
from llm_pruner.report.style import UNKNOWN, run_styles
from llm_pruner.report.table import Model, Results, best_first

_HATCHES = ("", "//////", "......")
"""Hatches that distinguish several scores of one method."""
_CURVES = 12
"""Curves at most; models with the same shares in every layer share one."""


def draw(results: Results, path: str | os.PathLike[str]) -> None:
    """Draw the importance of each layer, and the share of its parameters that went or became zero.

    The figure shows the models whose options let layers lose different shares, or all width models if there are none.
    It shows the layer scores that decided shares, or all layer scores if none did. Of very many different curves, those
    of the models of lowest perplexity are drawn.
    """
    scores = results.scores
    styles = run_styles(results, (score.method for score in scores))
    thinned = [
        model for model in results.models if model.mechanism and model.mechanism.thins_layers and not model.parent
    ]
    drawn = [model for model in thinned if _varies(model)] or [model for model in thinned if not model.is_sparse]
    layers = max((len(model.layers) for model in drawn), default=8)
    figure = new_figure(max(9.5, 2 + 0.3 * layers), 6.4)
    importance, rates = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    rankings = [score for score in scores if get_mechanism(score.mechanism).ranks_layers]
    used = {name for model in drawn if model.pruning for name in model.pruning.scores}
    ranking = [score for score in rankings if score.id in used] or rankings
    for place, score in enumerate(ranking):
        bar = 0.8 / len(ranking)
        values = layer_series(score)["score"]
        if min(values) > 0:  # one layer may outweigh all others by far
            importance.set_yscale("log")
            importance.yaxis.set_major_formatter(LogFormatter())
            importance.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False))
        offset = (place - (len(ranking) - 1) / 2) * bar
        colour = styles[score.method].colour
        before = [other.method for other in ranking[:place]].count(score.method)
        importance.bar(
            np.arange(len(values)) + offset,
            values,
            bar,
            color=colour,
            edgecolor="white",
            linewidth=0,
            hatch=_HATCHES[before % len(_HATCHES)],
            label=score.id,
        )
    curves: dict[tuple[tuple[int, float], ...], list[Model]] = defaultdict(list)
    for model in best_first(drawn):
        curves[_lost(model)].append(model)
    for number, (lost, models) in enumerate(list(curves.items())[:_CURVES]):
        style = styles[models[0].method or UNKNOWN]
        dashes = ("-", "--", ":", "-.")[number % 4]
        rates.plot(
            [layer for layer, _ in lost],
            [share for _, share in lost],
            color=style.colour,
            marker=style.marker,
            linestyle=dashes,
            label=models[0].name if len(models) == 1 else f"{models[0].name} and {len(models) - 1} alike",
        )
    if len(curves) > _CURVES:
        told = f"{_CURVES} of {len(curves)} different models, those of lowest perplexity"
        rates.set_title(told, loc="left", fontsize=9, color=QUIET)
    importance.set_ylabel("Importance relative\nto the largest")
    rates.set(xlabel="Layer of the base model", ylabel="Share of the layer's parameters\nremoved or zeroed")
    rates.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    rates.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (importance, rates):
        axes.grid(axis="y", **GRID)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8.5, loc="upper left", bbox_to_anchor=(1.01, 1))
    save(figure, path)


def _lost(model: Model) -> tuple[tuple[int, float], ...]:
    """Share of each layer's parameters that went; of a masked model, whose shapes stay, the share of its zeros."""
    return tuple(
        (layer.layer_idx, layer.nonzero_reduction_ratio if model.is_sparse else layer.reduction_ratio)
        for layer in model.layers
    )


def _varies(model: Model) -> bool:
    """Whether the model's options let layers lose different shares."""
    return bool(model.pruning and get_mechanism(model.pruning.mechanism).varies(model.pruning.options))

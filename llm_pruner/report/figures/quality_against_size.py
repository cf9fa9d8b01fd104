"""Figure of perplexity against size, and parts shared with the figure of accuracy."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from llm_pruner.mechanisms import get_mechanism
from llm_pruner.report.canvas import FAINT, INK, QUIET, new_figure, plain, save
from llm_pruner.report.style import CONTROLS, UNKNOWN, Style, ceiling, run_styles
from llm_pruner.report.table import Model, Results, summary_table

_FRONT: dict[str, Any] = {"color": QUIET, "linewidth": 1.4, "linestyle": (0, (4, 2)), "zorder": 1}
_HEALED: dict[str, Any] = {"arrowstyle": "-|>", "color": QUIET, "linewidth": 1.1, "shrinkA": 5, "shrinkB": 5}
_EDGE_STEP, _EDGE_STEPS = 1.09, 8
"""Distance between outliers at the edge, as a factor, and the number of steps that all of them share at most."""
_ARROWS = 16
"""Arrows from parents to children in a panel; with more pairs, only those of named models are drawn."""
_NAMES = 16
"""Names in a panel at most, the worst models of the front left out first."""
_QUALITIES = {
    "perplexity": ("Perplexity (lower is better)", False),
    "zero_shot_acc": ("Zero-shot accuracy ± standard error (higher is better)", True),
}
"""Axis label by column of the summary, and whether larger is better."""
_SIZES = {
    "bytes_on_disk": ("Weights on disk", {1e9: " GB", 1e6: " MB", 1e3: " kB"}),
    "nonzero": ("Non-zero parameters (models in few bits left out)", {1e9: "B", 1e6: "M", 1e3: "k"}),
}
"""Axis label and units by column of the summary."""

Quality = Literal["perplexity", "zero_shot_acc"]


def draw(results: Results, path: str | os.PathLike[str]) -> None:
    """Draw perplexity over size, with ``draw_quality``."""
    draw_quality(results, path, "perplexity")


def draw_quality(results: Results, path: str | os.PathLike[str], quality: Quality) -> None:
    """Draw quality over bytes on disk, and over non-zero parameters if the run has sparse models.

    Structured models and models in few bits are smaller on disk. A sparse model is stored at full size and gains only
    in the second panel; its marker is hollow in both panels. The second panel leaves out models in few bits, since
    their zeros come from the number format. An arrow leads from a model to its healed or quantised model. A line joins
    the models that no other model beats in size and quality. These models, the best of each control and the worst model
    are named; models at one place share a name. A model far worse than the others is drawn at the edge.
    """
    frame = summary_table(results).frame
    styles = run_styles(results)
    parents = {model.name: model.parent for model in results.models if model.parent}
    sizes = list(_SIZES) if any(model.is_sparse for model in results.models) else ["bytes_on_disk"]
    weights = frame[~frame["variant"].isin([model.name for model in results.models if model.is_quantized])]
    figure = new_figure(8 * len(sizes), 7.6)
    axes = [figure.add_subplot(1, len(sizes), place) for place in range(1, len(sizes) + 1)]
    panels = [_panel_points(weights if size == "nonzero" else frame, size, quality) for size in sizes]
    for panel, size, points in zip(axes, sizes, panels, strict=True):
        _draw_panel(panel, points, size, quality, styles, parents)
    drawn = set().union(*(points["variant"] for points in panels))
    _add_legend(figure, [model for model in results.models if model.name in drawn], styles)
    # settle the layout before placing names
    figure.draw_without_rendering()
    for panel, points in zip(axes, panels, strict=True):
        _label_points(panel, points)
    save(figure, path)


def _panel_points(frame: pd.DataFrame, size: str, quality: str) -> pd.DataFrame:
    """Models with both numbers: the point of each, its label, and whether it is on the front."""
    points = frame.dropna(subset=[size, quality])
    x, values = points[size].astype(float), points[quality].astype(float)
    larger_is_better = _QUALITIES[quality][1]
    costs = 1 - values if larger_is_better else values
    limit = ceiling(costs.tolist())
    far = costs > limit
    # outliers one above the other, the worst at the very edge, so that none hides another
    step = _EDGE_STEP ** min(1.0, _EDGE_STEPS / max(1, far.sum()))
    edge = limit * step ** (costs[far].rank(method="first") - 1)
    y = values.mask(far, 1 - edge if larger_is_better else edge)
    told = "↓ {:.0%}" if larger_is_better else "↑ {:,.0f}"
    labels = [
        f"{name} {told.format(value)}" if is_far else name
        for name, value, is_far in zip(points["variant"], values, far, strict=True)
    ]
    front = pareto_front(x.tolist(), values.tolist(), larger_is_better)
    placed = points.assign(x=x, y=y, label=labels, far=far, cost=costs, front=np.array(front, dtype=bool))
    return placed.assign(named=placed["variant"].isin(_named(placed)["variant"]))


def _named(points: pd.DataFrame) -> pd.DataFrame:
    """The points to name: the worst, the best of each control, and the front, best first; one for each place."""
    worst = points[points["cost"] == points["cost"].max()]
    controls = points[points["method"].isin(CONTROLS)].sort_values("cost").groupby("method").head(1)
    chosen = pd.concat([worst.head(1), controls, points[points["front"]].sort_values("cost")])
    return chosen.drop_duplicates(["x", "y"]).head(_NAMES)


def _draw_panel(
    axes: Axes,
    points: pd.DataFrame,
    size: str,
    quality: str,
    styles: Mapping[str, Style],
    parents: Mapping[str, str],
) -> None:
    label, units = _SIZES[size]
    axes.set(xlabel=label, ylabel=_QUALITIES[quality][0])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value, units)))
    plain(axes)
    axes.margins(x=0.12, y=0.08)
    if quality == "zero_shot_acc":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        near = points[~points["far"]]
        errors = near["zero_shot_stderr"].astype(float)
        axes.errorbar(near["x"], near["y"], yerr=errors, fmt="none", ecolor=FAINT, elinewidth=1.2, zorder=2)
    elif points["y"].max() > 3 * points["y"].min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    front = points[points["front"]].sort_values(["x", "y"])
    axes.plot(front["x"], front["y"], drawstyle="steps-post", **_FRONT)
    places = {row["variant"]: (row["x"], row["y"]) for row in points.to_dict("records")}
    steps = {name: parent for name, parent in parents.items() if {name, parent} <= places.keys()}
    named = set(points.loc[points["named"], "variant"])
    for name, parent in steps.items():
        if len(steps) <= _ARROWS or name in named:
            axes.annotate("", places[name], places[parent], arrowprops=_HEALED, zorder=2)
    for row in points.fillna({"method": UNKNOWN, "mechanism": ""}).to_dict("records"):
        hollow = row["mechanism"] != "" and get_mechanism(row["mechanism"]).masks
        axes.plot(row["x"], row["y"], **_point(styles[row["method"]], hollow))


def _point(style: Style, hollow: bool) -> dict[str, Any]:
    return {
        "marker": style.marker,
        "markersize": 13 if style.marker == "*" else 8.5,
        "markerfacecolor": "white" if hollow else style.colour,
        "markeredgecolor": style.colour if hollow else "white",
        "markeredgewidth": 1.8 if hollow else 0.8,
        "linestyle": "none",
        "zorder": 3,
    }


def _add_legend(figure: Figure, models: Sequence[Model], styles: Mapping[str, Style]) -> None:
    """Add a legend with every drawn method, hollow if sparse, and the front."""
    kinds = dict.fromkeys((model.method or UNKNOWN, model.is_sparse) for model in models)
    handles = [
        Line2D([], [], **_point(styles[method], sparse), label=f"{method} (sparse)" if sparse else method)
        for method, sparse in kinds
    ]
    handles.append(Line2D([], [], **_FRONT, label="best at its size"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8), frameon=False)


def _label_points(axes: Axes, points: pd.DataFrame) -> None:
    """Write the names, each at a free place near its point."""
    from textalloc import allocate

    named = points[points["named"]]
    at = points.groupby(["x", "y"])["label"].agg(list)
    labels = [_joined(label, at[x, y]) for label, x, y in zip(named["label"], named["x"], named["y"], strict=True)]
    # textalloc prints to stdout, which is for results, if a label finds no free place
    with redirect_stdout(StringIO()):
        allocate(
            axes,
            named["x"].tolist(),
            named["y"].tolist(),
            labels,
            x_scatter=points["x"].tolist(),
            y_scatter=points["y"].tolist(),
            textsize=8.5,
            textcolor=INK,
            linecolor=FAINT,
            linewidth=0.8,
            max_distance=0.15,
        )


def _joined(label: str, labels: Sequence[str]) -> str:
    """The name of a place: its label, and the second of two or the number of more."""
    others = [other for other in labels if other != label]
    return f"{label} and {len(others)} more" if len(others) > 1 else ", ".join([label, *others])


def pareto_front(sizes: Sequence[float], qualities: Sequence[float], larger_is_better: bool = False) -> list[bool]:
    """Whether each point is on the front: no other point is at most as large, at least as good, and better in one.

    Equal points are on the front together. Sizes are equal if their first three digits are: models that differ by a
    few stray zeros are of one size.
    """
    sizes = [float(f"{size:.3g}") for size in sizes]
    costs = [-quality if larger_is_better else quality for quality in qualities]
    order = sorted(range(len(costs)), key=lambda index: (sizes[index], costs[index]))
    front = [False] * len(costs)
    best, size_of_best = math.inf, math.nan
    for index in order:
        if costs[index] < best:
            best, size_of_best = costs[index], sizes[index]
            front[index] = True
        elif costs[index] == best and sizes[index] == size_of_best:
            front[index] = True
    return front


def short(value: float, units: Mapping[float, str]) -> str:
    """A number in the largest unit that fits.

    >>> short(1_500_000, {1e9: "B", 1e6: "M", 1e3: "k"})
    '1.5M'
    """
    scale = next((scale for scale in units if value >= scale), 1)
    return f"{value / scale:.4g}{units.get(scale, '')}"

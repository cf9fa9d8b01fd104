"""Figures of a run: quality against size, what each layer lost, and what the scores say about the layers."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, MultipleLocator, NullFormatter

from llm_pruner.mechanisms import get_mechanism
from llm_pruner.report.style import UNKNOWN, Style, method_styles, run_styles
from llm_pruner.report.table import Model, Results, layers_table, summary_table
from llm_pruner.system.files import staged_file

_DPI = 150
_GRID: dict[str, Any] = {"color": "#E3E3E3", "linewidth": 0.7}
_FRONT: dict[str, Any] = {"color": "#8A8A8A", "linewidth": 1.4, "linestyle": (0, (4, 2)), "zorder": 1}
_HEALED: dict[str, Any] = {"arrowstyle": "-|>", "color": "#8A8A8A", "linewidth": 1.1, "shrinkA": 5, "shrinkB": 5}
_QUALITIES = {
    "perplexity": ("Perplexity (lower is better)", False),
    "zero_shot_acc": ("Zero-shot accuracy ± standard error (higher is better)", True),
}
"""Column of the summary to the axis label and whether larger is better."""
_SIZES = {
    "bytes_on_disk": ("Weights on disk", {1e9: " GB", 1e6: " MB", 1e3: " kB"}),
    "nonzero": ("Non-zero parameters (models in few bits left out)", {1e9: "B", 1e6: "M", 1e3: "k"}),
}
"""Column of the summary to the axis label and its units."""

Quality = Literal["perplexity", "zero_shot_acc"]
Box = tuple[float, float, float, float]
"""Left, bottom, right and top, in pixels."""


# --- pure parts --------------------------------------------------------------------------------------------


def pareto_front(sizes: Sequence[float], qualities: Sequence[float], larger_is_better: bool = False) -> list[bool]:
    """Which points no other point beats: none is at most as large and at least as good, and better in one.

    Equal points are on the front together.
    """
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


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    area: Box,
    radius: float = 11.0,
) -> list[Box]:
    """A box for each point's label: near its point, inside ``area``, clear of markers and other labels.

    Greedy, from the most crowded point to the loneliest, over rings of candidate places that widen; where no
    place is free the one with the least overlap is taken. All in pixels; ``radius`` is that of a marker.
    """
    obstacles = [(x - radius, y - radius, x + radius, y + radius) for x, y in points]
    boxes: list[Box | None] = [None] * len(points)
    for index in sorted(range(len(points)), key=lambda one: -_crowding(points, one)):
        taken = [*obstacles, *(box for box in boxes if box is not None)]
        candidates = [box for box in _candidates(points[index], sizes[index], radius) if _inside(box, area)]
        candidates = candidates or list(_candidates(points[index], sizes[index], radius))
        boxes[index] = _first_free(candidates, taken)
    return [box for box in boxes if box is not None]


def _first_free(candidates: Sequence[Box], taken: Sequence[Box]) -> Box:
    """The first candidate that touches nothing, or the one that overlaps least."""
    least, best = math.inf, candidates[0]
    for box in candidates:
        shared = sum(_overlap(box, other) for other in taken)
        if shared < least:
            least, best = shared, box
        if shared == 0:
            break
    return best


def _candidates(point: tuple[float, float], size: tuple[float, float], radius: float) -> list[Box]:
    """Places for a label around its point, nearest first: right, left, above, below and the corners."""
    (x, y), (width, height) = point, size
    boxes = []
    for ring in range(16):
        distance = radius + 1 + ring * 0.6 * height
        for across, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            reach = distance
            left = x + across * reach + (across - 1) / 2 * width
            bottom = y + up * reach + (up - 1) / 2 * height
            boxes.append((left, bottom, left + width, bottom + height))
    return boxes


def _overlap(one: Box, other: Box) -> float:
    """Shared area of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)


def _inside(box: Box, area: Box) -> bool:
    return box[0] >= area[0] and box[1] >= area[1] and box[2] <= area[2] and box[3] <= area[3]


def _crowding(points: Sequence[tuple[float, float]], index: int) -> float:
    """How near the other points are."""
    return sum(1 / (1 + math.dist(points[index], other)) for other in points)


def short(value: float, units: Mapping[float, str]) -> str:
    """A number in the largest unit that fits.

    >>> short(1_500_000, {1e9: "B", 1e6: "M", 1e3: "k"})
    '1.5M'
    """
    scale = next((scale for scale in units if value >= scale), 1)
    return f"{value / scale:.4g}{units.get(scale, '')}"


# --- quality against size ----------------------------------------------------------------------------------


def plot_quality_against_size(results: Results, path: str | os.PathLike[str], quality: Quality = "perplexity") -> None:
    """Quality over bytes on disk, and over non-zero parameters where the run has sparse models.

    A structured model is really smaller, and so is one in few bits; a sparse one is stored at full size and gains only
    in the second panel, where NF4, whose zeros are those of a number format, has no place. It is drawn hollow in both.
    An arrow leads from a model to what healing or quantising made of it. The models that no other beats in size and
    quality are joined. A model far worse than the others is drawn at the edge, its quality written into its label.
    """
    frame = summary_table(results).frame
    styles = run_styles(results)
    parents = {model.name: model.parent for model in results.models if model.parent}
    sizes = list(_SIZES) if any(model.is_sparse for model in results.models) else ["bytes_on_disk"]
    weights = frame[~frame["variant"].isin([model.name for model in results.models if model.is_quantized])]
    figure = _new_figure(8 * len(sizes), 7.6)
    axes = [figure.add_subplot(1, len(sizes), place) for place in range(1, len(sizes) + 1)]
    panels = [_panel_points(weights if size == "nonzero" else frame, size, quality) for size in sizes]
    for panel, size, points in zip(axes, sizes, panels, strict=True):
        _draw_quality(panel, points, size, quality, styles, parents)
    drawn = set().union(*(points["variant"] for points in panels))
    _add_legend(figure, [model for model in results.models if model.name in drawn], styles)
    _settle_layout(figure)
    for panel, points in zip(axes, panels, strict=True):
        _label_points(panel, points)
    _save(figure, path)


_EDGE_STEP = 1.09


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


def _panel_points(frame: pd.DataFrame, size: str, quality: str) -> pd.DataFrame:
    """The models that have both numbers: where each is drawn, its label, and whether it is on the front."""
    points = frame.dropna(subset=[size, quality])
    x, values = points[size].astype(float), points[quality].astype(float)
    larger_is_better = _QUALITIES[quality][1]
    costs = 1 - values if larger_is_better else values
    limit = ceiling(costs.tolist())
    far = costs > limit
    # one above the other, the worst at the very edge, so that none hides another
    edge = limit * _EDGE_STEP ** (costs[far].rank(method="first") - 1)
    y = values.mask(far, 1 - edge if larger_is_better else edge)
    told = "↓ {:.0%}" if larger_is_better else "↑ {:,.0f}"
    labels = [
        f"{name} {told.format(value)}" if is_far else name
        for name, value, is_far in zip(points["variant"], values, far, strict=True)
    ]
    front = pareto_front(x.tolist(), values.tolist(), larger_is_better)
    return points.assign(x=x, y=y, label=labels, far=far, front=np.array(front, dtype=bool))


def _draw_quality(
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
    axes.grid(**_GRID)
    axes.margins(x=0.12, y=0.08)
    axes.spines[["top", "right"]].set_visible(False)
    if quality == "zero_shot_acc":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        near = points[~points["far"]]
        errors = near["zero_shot_stderr"].astype(float)
        axes.errorbar(near["x"], near["y"], yerr=errors, fmt="none", ecolor="#C8C8C8", elinewidth=1.2, zorder=2)
    elif points["y"].max() > 3 * points["y"].min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    front = points[points["front"]].sort_values(["x", "y"])
    axes.plot(front["x"], front["y"], drawstyle="steps-post", **_FRONT)
    places = {row["variant"]: (row["x"], row["y"]) for row in points.to_dict("records")}
    for name, parent in parents.items():
        if {name, parent} <= places.keys():
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
    """Every drawn method, hollow where it is sparse, and the front."""
    kinds = dict.fromkeys((model.method or UNKNOWN, model.is_sparse) for model in models)
    handles = [
        Line2D([], [], **_point(styles[method], sparse), label=f"{method} (sparse)" if sparse else method)
        for method, sparse in kinds
    ]
    handles.append(Line2D([], [], **_FRONT, label="best at its size"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8), frameon=False)


def _label_points(axes: Axes, points: pd.DataFrame) -> None:
    """Write each label beside its point, with a line where it had to move away. Needs a settled layout."""
    if points.empty:
        return
    pixels = [(float(x), float(y)) for x, y in axes.transData.transform(points[["x", "y"]].to_numpy())]
    texts = [
        axes.annotate(
            label,
            (0, 0),
            xycoords="figure pixels",
            fontsize=8.5,
            fontweight="bold" if on_front else "normal",
            color="#222222",
            path_effects=[Stroke(linewidth=2.5, foreground="white"), Normal()],
            zorder=4,
        )
        for label, on_front in zip(points["label"], points["front"], strict=True)
    ]
    extents = [text.get_window_extent() for text in texts]
    frame = axes.get_window_extent()
    boxes = place_labels(
        pixels, [(box.width + 4, box.height + 1) for box in extents], (frame.x0, frame.y0, frame.x1, frame.y1)
    )
    for text, point, box, extent in zip(texts, pixels, boxes, extents, strict=True):
        # ``extent`` was measured with the anchor at the origin, so its y0 is the depth below the baseline.
        text.set_position((box[0] + 2, box[1] - extent.y0))
        nearest = (min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3]))
        if math.dist(point, nearest) > 20:
            line = {"arrowstyle": "-", "color": "#8A8A8A", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 4}
            axes.annotate("", point, nearest, xycoords="figure pixels", textcoords="figure pixels", arrowprops=line)


# --- layers ------------------------------------------------------------------------------------------------


def plot_layer_reduction(results: Results, path: str | os.PathLike[str]) -> None:
    """What each pruned model took from each layer: attention beside MLP, one row a model, one column a layer.

    Shown is the share of non-zero parameters that were removed or zeroed, so that sparse and structured models
    share one scale. A row without an analysis stays grey. Healed models have the shapes of those they came from and
    are left out.
    """
    table = layers_table(results)
    left_out = [model.name for model in results.models if model.parent or model.name == results.base.name]
    frame = table.frame[~table.frame["variant"].isin(left_out)]
    layers = [column.title for column in table.columns if column.key.startswith("layer_")]
    names = list(dict.fromkeys(frame["variant"]))
    figure = _new_figure(3.4 + 2 * max(3.2, 0.42 * len(layers)), 1.7 + 0.32 * max(len(names), 3))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, block in zip(panels, ("Attention", "MLP"), strict=True):
        shares = frame.loc[frame["block"] == block, [f"layer_{layer}" for layer in layers]]
        values = shares.to_numpy(dtype=float, na_value=np.nan).reshape(len(names), len(layers))
        image = _draw_heat(axes, values, layers, names)
        axes.set_title(block, fontsize=11)
        axes.set_xlabel("Layer of the base model")
    bar = figure.colorbar(image, ax=list(panels), fraction=0.03, pad=0.02)
    bar.set_label("Removed or zeroed")
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    bar.outline.set_visible(False)
    _save(figure, path)


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


def plot_layer_scores(
    scores: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    results: Results | None = None,
) -> None:
    """How important each score finds each layer: one panel a score, one bar a layer.

    A depth score has one value per layer. Of a width score the mean over the layer's key-value groups and the
    mean over its MLP channels stand side by side. Each is divided by its largest magnitude, as the units of two
    scores have nothing in common.

    Args:
        scores: contents of the files in ``resources/scores``.
        results: the run, so that a method has the colour that it has in the run's other figures.
    """
    methods = [score["method"] for score in scores]
    styles = method_styles(methods) if results is None else run_styles(results, methods)
    columns = min(3, max(1, len(scores)))
    rows = max(1, math.ceil(len(scores) / columns))
    layers = max((len(score["layers"]) for score in scores), default=8)
    figure = _new_figure(columns * max(4.2, 0.16 * layers), 0.4 + 2.5 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, score in zip(panels, scores, strict=False):
        _draw_scores(axes, score, styles[score["method"]].colour)
    for axes in panels[len(scores) :]:
        axes.set_axis_off()
    figure.supxlabel("Layer", fontsize=10)
    figure.supylabel("Score relative to the largest", fontsize=10)
    _save(figure, path)


def plot_layer_rates(scores: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], results: Results) -> None:
    """How important layers are, and the share of its parameters that each lost by width.

    Drawn are the models whose options let layers lose differently; all width models if there are none.

    Args:
        scores: contents of the files in ``resources/scores``; shown are those of layers that decided something, or
            all of layers if none did.
        results: the run.
    """
    styles = run_styles(results, (score["method"] for score in scores))
    thinned = [
        model for model in results.models if model.mechanism and model.mechanism.thins_layers and not model.parent
    ]
    drawn = [model for model in thinned if _varies(model)] or thinned
    layers = max((len(model.comparison.get("layers") or ()) for model in drawn), default=8)
    figure = _new_figure(max(8.0, 0.3 * layers), 6.4)
    importance, rates = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    rankings = [score for score in scores if get_mechanism(score["mechanism"]).ranks_layers]
    used = {name for model in drawn for name in model.pruning.get("scores") or ()}
    ranking = [score for score in rankings if score["id"] in used] or rankings
    for place, score in enumerate(ranking):
        bar = 0.8 / len(ranking)
        values = layer_series(score)["score"]
        if min(values) > 0:  # one layer may outweigh all others by far
            importance.set_yscale("log")
        offset = (place - (len(ranking) - 1) / 2) * bar
        colour = styles[score["method"]].colour
        importance.bar(np.arange(len(values)) + offset, values, bar, color=colour, label=score["id"])
    for number, model in enumerate(drawn):
        style = styles[model.method or UNKNOWN]
        lost = {one["layer_idx"]: one["reduction_ratio"] for one in model.comparison.get("layers") or ()}
        dashes = ("-", "--", ":", "-.")[number % 4]
        rates.plot(
            list(lost), list(lost.values()), color=style.colour, marker=style.marker, linestyle=dashes, label=model.name
        )
    importance.set_ylabel("Importance relative\nto the largest")
    rates.set(xlabel="Layer of the base model", ylabel="Share of the layer's parameters removed")
    rates.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    rates.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (importance, rates):
        axes.grid(axis="y", **_GRID)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8.5)
    _save(figure, path)


def _varies(model: Model) -> bool:
    """Whether the model's options let layers lose differently."""
    return model.mechanism is not None and model.mechanism.varies(model.pruning.get("options") or {})


def _draw_scores(axes: Axes, score: Mapping[str, Any], colour: str) -> None:
    indices = np.array([layer["index"] for layer in score["layers"]])
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
    axes.set_title(f"{score['id']} ({score['mechanism']})", fontsize=10, loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MultipleLocator(0.5))
    axes.axhline(0, color="#555555", linewidth=0.8, zorder=3)
    axes.set_ylim(min(0.0, *(value * 1.1 for values in series.values() for value in values)), 1.25)
    axes.grid(axis="y", **_GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8, ncols=len(series), loc="upper right", borderaxespad=0.1)


def layer_series(score: Mapping[str, Any]) -> dict[str, list[float]]:
    """One normalised value per layer: ``{"score": ...}`` of a depth score, attention and MLP of a width score."""
    series = [get_mechanism(score["mechanism"]).series(layer) for layer in score["layers"]]
    return {part: _normalised([layer[part] for layer in series]) for part in series[0]}


def _normalised(values: Sequence[float]) -> list[float]:
    """Divided by the largest magnitude; all zeros stay zeros."""
    largest = max((abs(value) for value in values), default=0.0)
    return [value / largest if largest else 0.0 for value in values]


# --- canvas ------------------------------------------------------------------------------------------------


def _new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches, without pyplot and its global state."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _settle_layout(figure: Figure) -> None:
    """Fix the axes where they are, so that pixel positions taken from now on hold."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    with staged_file(path) as staged:
        # Without the version in its metadata the same numbers make the same file.
        figure.savefig(staged, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})

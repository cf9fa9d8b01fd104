"""Figures of depth pruning and quick evaluations, as PNG files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any

from llm_pruner.methods.activation import Activation
from llm_pruner.objects.layer_scores import LayerScores
from llm_pruner.scoring.stream import LayerStream
from llm_pruner.system.device import pick_device
from llm_pruner.system.files import staged_file
from llm_pruner.system.ownership import MADE_BY
from llm_pruner.system.runtime import Runtime

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes
    from transformers import PreTrainedModel

    from llm_pruner.objects.layer_scores import Scores

    Place = str | os.PathLike[str]

_KEPT, _REMOVED, _CHANCE = "#0072B2", "#D55E00", "#222222"
_DWARFS = 10.0  # multiple of the median above which a score hides differences between the others
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")


def plot_layer_importance(scores: Scores, path: Place = "layer_importance.png", removed: Sequence[int] = ()) -> None:
    """Draw the score of every layer, with a second colour for removed layers. Outliers make the axis logarithmic.

    Args:
        scores: scores by layer, as from ``compute_layer_scores``.
        path: the PNG to write.
        removed: indices of the removed layers.
    """
    by_layer = LayerScores.of(scores)
    with _figure(path, width=_width(len(by_layer))) as axes:
        for label, colour, own in (
            ("kept", _KEPT, [layer for layer in by_layer if layer not in removed]),
            ("removed", _REMOVED, [layer for layer in by_layer if layer in removed]),
        ):
            axes.bar(own, [by_layer[layer] for layer in own], color=colour, label=f"{label} ({len(own)})")
        values = list(by_layer.values())
        if min(values) > 0 and max(values) > _DWARFS * median(values):
            axes.set_yscale("log")
        else:
            axes.axhline(0, color=_CHANCE, linewidth=0.8)
        axes.set(xlabel="layer", ylabel="score (higher is more important)", title="Importance by layer")
        _whole_numbers(axes)
        if removed:
            _legend(axes)


def plot_activation_comparison(
    base: Place | PreTrainedModel,
    pruned: Place | PreTrainedModel,
    ids: torch.Tensor,
    path: Place,
    *,
    kept: Sequence[int] | None = None,
    device: str = "auto",
) -> None:
    """Draw the mean L2 norm of each layer's output, for two models on the same samples.

    Args:
        base: a model folder, or a loaded model.
        pruned: a model folder, or a loaded model.
        ids: samples, int64 [samples, length].
        path: the PNG to write.
        kept: the base's index of each layer of the pruned model, such as ``Plan.kept_layers``, to align the curves; by
            default the base's first layers.
        device: device of the layers.
    """
    device = pick_device(device)
    norms = [Activation().layer_scores(LayerStream(model, ids, Runtime(device))) for model in (base, pruned)]
    places = range(len(norms[1])) if kept is None else kept
    with _figure(path, width=_width(len(norms[0]))) as axes:
        axes.plot(range(len(norms[0])), norms[0], "o-", color=_KEPT, label=f"base ({len(norms[0])} layers)")
        axes.plot(places, norms[1], "s--", color=_REMOVED, label=f"pruned ({len(norms[1])} layers)")
        axes.set(
            xlabel="layer" if kept is None else "layer of the base",
            ylabel="mean norm of the output",
            title="Activations by layer",
        )
        axes.set_ylim(bottom=0)
        _whole_numbers(axes)
        _legend(axes)


def plot_semantic_comparison(results: Mapping[str, Mapping[str, Any]], path: Place) -> None:
    """Draw the semantic similarity between models' answers and the references, with standard errors and chance.

    Args:
        results: results by model, as from ``ModelEvaluator.compare``.
        path: the PNG to write.
    """
    names = list(results)
    with _figure(path, width=_width(len(names), 1.1)) as axes:
        axes.bar(
            names,
            [result["similarity"] for result in results.values()],
            yerr=[result["stderr"] or 0.0 for result in results.values()],
            color=_KEPT,
            capsize=4,
            label="own reference",
        )
        chance = {name: result["chance"] for name, result in results.items() if result["chance"] is not None}
        axes.plot(
            list(chance), list(chance.values()), "_", color=_REMOVED, markersize=26, mew=2.5, label="other references"
        )
        embedders = ", ".join(dict.fromkeys(str(result["embedder"]) for result in results.values()))
        axes.set(ylabel="mean cosine ± standard error", title=f"Similarity to the reference (embedder: {embedders})")
        axes.tick_params(axis="x", rotation=20 if len(names) > 4 else 0)
        _legend(axes)


def plot_holistic_benchmark(results: Mapping[str, Mapping[str, Any]], path: Place) -> None:
    """Draw the share of right answers in each task and the mean, models side by side, with standard errors.

    Args:
        results: results by model, as from ``HolisticEvaluator.compare``.
        path: the PNG to write.
    """
    tasks = list(dict.fromkeys(task for result in results.values() for task in result["tasks"]))
    with _figure(path, width=_width((len(tasks) + 1) * (len(results) + 1), 0.3)) as axes:
        for number, (name, result) in enumerate(results.items()):
            groups = {**result["tasks"], "mean": result["mean"]}
            places = [place for place, task in enumerate((*tasks, "mean")) if task in groups]
            own = [groups[task] for task in (*tasks, "mean") if task in groups]
            bar = 0.8 / len(results)
            axes.bar(
                [place + (number - (len(results) - 1) / 2) * bar for place in places],
                [100 * group["score"] for group in own],
                bar,
                yerr=[100 * (group["stderr"] or 0.0) for group in own],
                capsize=2,
                error_kw={"linewidth": 0.9},
                color=_COLOURS[number % len(_COLOURS)],
                hatch="" if number < len(_COLOURS) else "//",
                label=name,
            )
        axes.set_xticks(range(len(tasks) + 1), [*tasks, "mean"])
        axes.axvline(len(tasks) - 0.5, color=_CHANCE, linewidth=0.8, linestyle=":")
        axes.set(ylabel="right answers (%) ± standard error", title="Quick benchmarks")
        axes.set_ylim(bottom=0)
        _legend(axes)


@contextmanager
def _figure(path: Place, width: float) -> Iterator[Axes]:
    """Axes of a figure, which is written if the block succeeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4), layout="constrained")
    axes = figure.subplots()
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    yield axes
    with staged_file(path) as staged:
        figure.savefig(staged, dpi=150, format="png", metadata={"Software": MADE_BY})


def _legend(axes: Axes) -> None:
    """Put the legend beside the axes, so that it covers no bar."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def _width(marks: int, each: float = 0.25) -> float:
    """Width of a figure in inches, for a number of marks along the axis."""
    return max(7.0, 2.5 + each * marks)


def _whole_numbers(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))

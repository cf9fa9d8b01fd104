"""The loss curve of a training, of the base model or of a healed one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_pruner.system.files import staged_file

_SPAN = 0.03  # share of the steps that the running mean looks back over


def plot_loss_curve(
    path: Path, train: Sequence[float], points: Sequence[Mapping[str, Any]], *, title: str, label: str
) -> None:
    """Draw loss over steps as a PNG: every batch, their running mean, and points on other text.

    Args:
        train: the loss of every step, in nats per token.
        points: ``step`` and ``loss`` of each point; step n is after n updates.
        label: what the points were measured on.
    """
    from matplotlib.figure import Figure

    steps = range(1, len(train) + 1)
    smooth = running_mean(train, 1 - 1 / max(1.0, _SPAN * len(train)))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, train, color="tab:blue", alpha=0.3, linewidth=0.8, label="train, every batch")
    axes.plot(steps, smooth, color="tab:blue", label="train, running mean")
    axes.plot([p["step"] for p in points], [p["loss"] for p in points], "o-", color="tab:orange", label=label)
    axes.set(xlabel="step", ylabel="loss (nats per token)", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    with staged_file(path) as staged:
        figure.savefig(staged, dpi=150)


def plot_step_curve(record: Mapping[str, Any], path: Path) -> None:
    """Draw the training of a step, from its ``step.json``, as a PNG."""
    history, perplexity = record["history"], record["perplexity"]
    title = f"{record['variant']}: held-out perplexity {perplexity['before']:.1f} → {perplexity['after']:.1f}"
    plot_loss_curve(path, history["train"], history["held_out"], title=title, label="held out")


def running_mean(values: Sequence[float], decay: float) -> list[float]:
    """Exponential running mean, corrected for its start.

    >>> running_mean([3.0, 3.0], 0.9)
    [3.0, 3.0]
    """
    sums = itertools.accumulate(values, lambda mean, value: decay * mean + (1 - decay) * value, initial=0.0)
    return [mean / (1 - decay**count) for count, mean in enumerate(sums) if count]


def plot_classifier_curves(path: Path, history: Mapping[str, Any], *, title: str) -> None:
    """Draw a classifier's training as a PNG: loss of every step, validation accuracy, and sparsity where it rises.

    Args:
        history: ``train`` losses, and ``points`` of ``step``, ``accuracy`` and, in pruning, ``sparsity``.
    """
    from matplotlib.figure import Figure

    train, points = history["train"], history["points"]
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    loss, accuracy = figure.subplots(2, 1, sharex=True)
    loss.plot(range(1, len(train) + 1), train, color="tab:blue", alpha=0.3, linewidth=0.8)
    smooth = running_mean(train, 1 - 1 / max(1.0, _SPAN * len(train)))
    loss.plot(range(1, len(train) + 1), smooth, color="tab:blue")
    loss.set(ylabel="loss (nats)", title=title)
    steps = [point["step"] for point in points]
    accuracy.plot(steps, [point["accuracy"] for point in points], "o-", color="tab:orange", label="validation accuracy")
    if any("sparsity" in point for point in points):
        sparsity = [point["sparsity"] for point in points]
        accuracy.plot(steps, sparsity, ".-", color="tab:gray", label="sparsity")
    accuracy.plot(
        history["best"]["step"], history["best"]["accuracy"], "*", color="tab:red", markersize=12, label="kept"
    )
    accuracy.set(xlabel="step", ylim=(0, 1))
    accuracy.legend()
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3)
    with staged_file(path) as staged:
        figure.savefig(staged, dpi=150)

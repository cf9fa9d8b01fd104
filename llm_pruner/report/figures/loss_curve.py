"""Losses over the steps of a training, which several figures show."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from llm_pruner.report.canvas import BLUE, ORANGE, new_figure, plain, save

_SPAN = 0.03  # share of the steps that the running mean looks back over


def plot_loss_curve(
    path: Path, train: Sequence[float], points: Sequence[tuple[int, float]], *, title: str, label: str
) -> None:
    """Draw loss over steps as a PNG: every batch, their running mean, and points on other text.

    Args:
        train: the loss of every step, in nats per token.
        points: step and loss of each point; step n is after n updates.
        label: what the points were measured on.
    """
    figure = new_figure(7, 4)
    axes = figure.subplots()
    plot_losses(axes, train)
    axes.plot(*zip(*points, strict=True), "o-", color=ORANGE, label=label)
    axes.set(xlabel="step", ylabel="loss (nats per token)", title=title)
    plain(axes)
    axes.legend()
    save(figure, path)


def plot_losses(axes: Axes, train: Sequence[float]) -> None:
    """Draw the loss of every step, and their running mean."""
    steps = range(1, len(train) + 1)
    smooth = running_mean(train, 1 - 1 / max(1.0, _SPAN * len(train)))
    axes.plot(steps, train, color=BLUE, alpha=0.3, linewidth=0.8, label="train, every batch")
    axes.plot(steps, smooth, color=BLUE, label="train, running mean")


def running_mean(values: Sequence[float], decay: float) -> list[float]:
    """Exponential running mean, corrected for its start.

    >>> running_mean([3.0, 3.0], 0.9)
    [3.0, 3.0]
    """
    sums = itertools.accumulate(values, lambda mean, value: decay * mean + (1 - decay) * value, initial=0.0)
    return [mean / (1 - decay**count) for count, mean in enumerate(sums) if count]

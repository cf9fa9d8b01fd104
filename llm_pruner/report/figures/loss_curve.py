"""Losses over the updates of a training, shared by several figures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from llm_pruner.report.canvas import BLUE, ORANGE, new_figure, plain, save

_SPAN = 0.03  # span of the running mean, as a share of the updates


def plot_loss_curve(
    path: Path, train: Sequence[float], points: Sequence[tuple[int, float]], *, title: str, label: str
) -> None:
    """Draw the loss over the updates as a PNG: every batch, their running mean, and points on other text.

    Args:
        train: the loss of every update, in nats per token.
        points: number of updates and loss of each point.
        label: name of the text behind the points.
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
    """Draw the loss of every update, and the running mean."""
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

"""Figure of a classifier's training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_pruner.report.canvas import ORANGE, QUIET, VERMILION, new_figure, plain, save
from llm_pruner.report.figures.loss_curve import plot_losses
from llm_pruner.system.files import read_json

read = read_json


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Draw a classifier's training as a PNG: loss of every step, validation accuracy, and sparsity where it rises.

    Args:
        record: with ``history``: ``train`` losses, ``points`` of ``step``, ``accuracy`` and, in pruning, ``sparsity``,
            and ``best``, the point whose weights were kept.
    """
    history = record["history"]
    train, points = history["train"], history["points"]
    figure = new_figure(7, 4.5)
    loss, accuracy = figure.subplots(2, 1, sharex=True)
    plot_losses(loss, train)
    loss.set(ylabel="loss (nats)", title=f"{record['name']}, seed {record['seed']}")
    steps = [point["step"] for point in points]
    accuracy.plot(steps, [point["accuracy"] for point in points], "o-", color=ORANGE, label="validation accuracy")
    if any("sparsity" in point for point in points):
        sparsity = [point["sparsity"] for point in points]
        accuracy.plot(steps, sparsity, ".-", color=QUIET, label="sparsity")
    accuracy.plot(
        history["best"]["step"], history["best"]["accuracy"], "*", color=VERMILION, markersize=12, label="kept"
    )
    accuracy.set(xlabel="step", ylim=(0, 1))
    accuracy.legend()
    for axes in (loss, accuracy):
        plain(axes)
    save(figure, path)

"""Figure of a classifier's training."""

from __future__ import annotations

from pathlib import Path

from llm_pruner.encoders.records.classifier import ClassifierRecord
from llm_pruner.report.canvas import ORANGE, QUIET, VERMILION, new_figure, plain, save
from llm_pruner.report.figures.loss_curve import plot_losses

read = ClassifierRecord.read


def draw(record: ClassifierRecord, path: Path) -> None:
    """Draw a classifier's training as a PNG: loss of every update, validation accuracy, and sparsity if it rises.

    Args:
        record: record of a trained classifier.
    """
    history = record.history
    assert history
    points, best = history.points, history.best
    figure = new_figure(7, 4.5)
    loss, accuracy = figure.subplots(2, 1, sharex=True)
    plot_losses(loss, history.train)
    loss.set(ylabel="loss (nats)", title=f"{record.name}, seed {record.seed}")
    steps = [point.step for point in points]
    accuracy.plot(steps, [point.accuracy for point in points], "o-", color=ORANGE, label="validation accuracy")
    sparsity = [point.sparsity for point in points if point.sparsity is not None]
    if sparsity:
        accuracy.plot(steps, sparsity, ".-", color=QUIET, label="sparsity")
    accuracy.plot(best.step, best.accuracy, "*", color=VERMILION, markersize=12, label="kept")
    accuracy.set(xlabel="step", ylim=(0, 1))
    accuracy.legend()
    for axes in (loss, accuracy):
        plain(axes)
    save(figure, path)

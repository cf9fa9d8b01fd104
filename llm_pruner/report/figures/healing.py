"""Figure of a model's healing."""

from __future__ import annotations

from pathlib import Path

from llm_pruner.report.figures.loss_curve import plot_loss_curve
from llm_pruner.steps.records import HealingFile

read = HealingFile.read


def draw(record: HealingFile, path: Path) -> None:
    """Draw the loss over the updates as a PNG."""
    history, perplexity = record.history, record.perplexity
    title = f"{record.variant}: held-out perplexity {perplexity.before:.1f} → {perplexity.after:.1f}"
    points = [(point.step, point.loss) for point in history.held_out]
    plot_loss_curve(path, history.train, points, title=title, label="held out")

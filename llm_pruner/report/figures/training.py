"""Figure of the built-in model's training."""

from __future__ import annotations

from pathlib import Path

from llm_pruner.report.figures.loss_curve import plot_loss_curve
from llm_pruner.training.records import BuiltinTraining

read = BuiltinTraining.read


def draw(record: BuiltinTraining, path: Path) -> None:
    """Draw the loss over the updates as a PNG."""
    quality, history = record.validation, record.history
    size = f"perplexity {quality.perplexity:.1f}, {quality.bits_per_byte:.2f} bits per byte"
    title = f"Built-in model: validation {size}"
    points = [(point.step, point.loss) for point in history.validation]
    plot_loss_curve(path, history.train, points, title=title, label="validation")

"""Figure of the built-in model's training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_pruner.report.figures.loss_curve import plot_loss_curve


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Draw loss over steps as a PNG.

    Args:
        record: what ``train_builtin`` returned.
    """
    quality, history = record["validation"], record["history"]
    size = f"perplexity {quality['perplexity']:.1f}, {quality['bits_per_byte']:.2f} bits per byte"
    title = f"Built-in model: validation {size}"
    plot_loss_curve(path, history["train"], history["validation"], title=title, label="validation")

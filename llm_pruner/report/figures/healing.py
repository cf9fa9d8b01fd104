"""Figure of a model's healing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_pruner.report.figures.loss_curve import plot_loss_curve


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Draw loss over steps as a PNG.

    Args:
        record: ``step.json`` of a step that trains.
    """
    history, perplexity = record["history"], record["perplexity"]
    title = f"{record['variant']}: held-out perplexity {perplexity['before']:.1f} → {perplexity['after']:.1f}"
    plot_loss_curve(path, history["train"], history["held_out"], title=title, label="held out")

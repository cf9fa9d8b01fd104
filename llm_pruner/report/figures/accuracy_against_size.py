"""Figure of zero-shot accuracy against size."""

from __future__ import annotations

import os

from llm_pruner.report.figures.quality_against_size import draw_quality
from llm_pruner.report.table import Results


def draw(results: Results, path: str | os.PathLike[str]) -> None:
    """Draw zero-shot accuracy over size, with ``draw_quality``."""
    draw_quality(results, path, "zero_shot_acc")

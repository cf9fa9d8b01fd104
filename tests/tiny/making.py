"""Variants made of tiny models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_pruner.variants.records import PruningRecord


def make(name: str, options: dict[str, Any], base: Path, calibration: Path, output: Path) -> PruningRecord:
    """Score, where the method scores, and prune; gives the record of the pruning."""
    from llm_pruner.variants.grammar import resolve
    from llm_pruner.variants.make import prune
    from llm_pruner.variants.score import compute_scores

    variant = resolve(name, options)
    files = {}
    for role, score in (("scores", variant.score), ("importance", variant.importance)):
        if score:
            files[role] = output / f"{role}.json"
            compute_scores(score, base, calibration, files[role], device="cpu")
    return prune(variant, base, output, calibration=calibration, device="cpu", **files)


def label(name: str, options: Mapping[str, Any]) -> str:
    """A folder's name for what is made with these options."""
    return "-".join([name, *(f"{key}={value}" for key, value in sorted(options.items()))])

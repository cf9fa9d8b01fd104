"""What a mechanism is given and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llm_pruner.mechanisms.records import ScoresFile
from llm_pruner.planning.plan import Plan
from llm_pruner.repairs.records import RepairRecord
from llm_pruner.system.runtime import Runtime

if TYPE_CHECKING:
    import torch

    from llm_pruner.variants.variant import Variant


@dataclass(frozen=True)
class Job:
    """One variant to be made."""

    variant: Variant
    base: Path
    model: Path
    """The folder to write."""
    scores: ScoresFile | None
    """Of the groups, or of the layers, that may go."""
    importance: ScoresFile | None
    """Of layers, which decide how much each may lose, where the options ask for them."""
    split: str | None
    """Attention : MLP shares that a search found."""
    input_ids: torch.Tensor | None
    """The calibration samples the method uses, int64 [samples, length]."""
    calibration: torch.Tensor | None
    """All calibration samples, for a repair, int64 [samples, length]."""
    runtime: Runtime


@dataclass(frozen=True)
class LayerOutcome:
    """What a layer was to lose of its linear weights, and what it lost."""

    index: int
    asked: float
    """A ratio."""
    zeros: int
    weights: int


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    reached: float
    """In the unit the variant asked in."""
    plan: Plan | None = None
    notes: list[str] = field(default_factory=list)
    layers: list[LayerOutcome] | None = None
    """By layer, where an allocation shares out single weights."""
    repair: RepairRecord | None = None
    """What a repair brought, where there was one."""

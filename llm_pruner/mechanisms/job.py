"""What a mechanism is given and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.mechanisms.records import ScoresFile
from llm_pruner.planning.plan import Plan
from llm_pruner.repairs.choice import REPAIR
from llm_pruner.repairs.records import RepairRecord
from llm_pruner.system.runtime import Runtime
from llm_pruner.training.resume import RESUME_POINT

if TYPE_CHECKING:
    import torch

    from llm_pruner.repairs.base import Removed, Repair
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
    runtime: Runtime
    calibration: torch.Tensor | None = None
    """All calibration samples, for a repair, int64 [samples, length]."""

    def repair(self, output: Path, removed: Removed) -> RepairRecord:
        """Write the base with zeros where something is removed and the rest repaired as the options say.

        Args:
            output: the folder to write.
            removed: what is gone of each linear layer.

        Raises:
            PlanError: if there are too few samples, or they do not determine the repair.
            CheckpointError: if inputs of a layer are not finite.
        """
        choice = self.variant.options["repair"]
        name, options = REPAIR.split(choice)
        repair: Repair = REPAIR.make(choice)
        told = repair.apply(
            self.base,
            output,
            removed,
            self.calibration,
            self.runtime,
            description=f"{self.variant.name} repair, layers",
            resume_point=self.model.parent / RESUME_POINT,
        )
        brought: dict[str, Any] = {repair.told: tuple(told)}
        return RepairRecord(name=name, options=options, **brought)


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

"""Inputs and results of a mechanism's pruning job."""

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
    """One variant to make, with its inputs."""

    variant: Variant
    """The variant."""
    base: Path
    """Folder of the base model."""
    model: Path
    """Folder to write."""
    scores: ScoresFile | None
    """Scores of units or layers; None for a mechanism without scores."""
    importance: ScoresFile | None
    """Scores of layers that the options need; None if they need none."""
    split: str | None
    """Shares of the budget for attention and MLP that a search found."""
    input_ids: torch.Tensor | None
    """Calibration samples that the method uses, int64 [samples, length]."""
    runtime: Runtime
    """Where the job runs."""
    calibration: torch.Tensor | None = None
    """All calibration samples, for a repair, int64 [samples, length]."""

    def repair(self, output: Path, removed: Removed) -> RepairRecord:
        """Write the base with zeros for removed weights, and with the kept weights repaired as the options say.

        Args:
            output: folder to write.
            removed: removed weights or columns of each linear layer.

        Returns:
            The repair's part of the variant's record.

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
    """Requested and actual zeros of one layer's linear weights."""

    index: int
    """Index of the layer, from 0."""
    asked: float
    """Requested share of zeros."""
    zeros: int
    """Number of zeros."""
    weights: int
    """Number of linear weights."""


@dataclass(frozen=True)
class Outcome:
    """Results of a pruning job."""

    reached: float
    """Amount that was removed, in the unit of the variant's amount."""
    plan: Plan | None = None
    """Layers and units that stay; None for masks and slices."""
    notes: list[str] = field(default_factory=list)
    """Notes for the variant's record."""
    layers: list[LayerOutcome] | None = None
    """Zeros of each layer; None unless single weights are zeroed."""
    repair: RepairRecord | None = None
    """Results of the repair; None without a repair."""

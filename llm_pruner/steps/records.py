"""Records of the steps that a model went through."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import ConfigDict

from llm_pruner.system.records import Pair, Part, Record, RunRecord
from llm_pruner.training.healed import Healed


class StepRecord(Part):
    """One step that a model went through. A step may add further fields."""

    model_config = ConfigDict(extra="allow")

    name: str
    """Name of the step, as behind the plus."""
    options: dict[str, Any]
    """Options of the step, defaults included."""
    bytes: Pair[int] | None = None
    """Bytes on disk, of a step that stores weights in few bits."""
    held_out: Pair[float] | None = None
    """Perplexity on held-out text, of a step that trains."""
    run: RunRecord
    """The job of the step."""


class StepFile(Record):
    """All results of a step. A step may add further fields."""

    model_config = ConfigDict(extra="allow")
    file: ClassVar[str] = "baselines/{variant}/step.json"

    variant: str
    """The variant that the step made."""
    name: str
    """Name of the step, as behind the plus."""
    options: dict[str, Any]
    """Options of the step, defaults included."""
    run: RunRecord
    """The job of the step."""


class HealingFile(Healed, StepFile):
    """All results of a step that trains."""

    model_config = ConfigDict(extra="forbid")

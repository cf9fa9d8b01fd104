"""What records say of the steps a model went through."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import ConfigDict

from llm_pruner.system.records import Pair, Part, Record, RunRecord
from llm_pruner.training.healed import Healed


class StepRecord(Part):
    """One step that a model went through; what else the step tells of itself stands beside."""

    model_config = ConfigDict(extra="allow")

    name: str
    """As written behind the plus."""
    options: dict[str, Any]
    """Of the step, defaults included."""
    bytes: Pair[int] | None = None
    """On disk; of a step that stores weights in few bits."""
    held_out: Pair[float] | None = None
    """Perplexity on held-out text; of a step that trains."""
    run: RunRecord
    """The job that took it."""


class StepFile(Record):
    """Everything that a step tells of itself; what only one kind of step tells stands beside."""

    model_config = ConfigDict(extra="allow")
    file: ClassVar[str] = "baselines/{variant}/step.json"

    variant: str
    """The model it made."""
    name: str
    """As written behind the plus."""
    options: dict[str, Any]
    """Of the step, defaults included."""
    run: RunRecord
    """The job that took it."""


class HealingFile(Healed, StepFile):
    """Everything that a step which trains tells of itself."""

    model_config = ConfigDict(extra="forbid")

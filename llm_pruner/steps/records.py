"""What records say of the steps a model went through."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import ConfigDict

from llm_pruner.system.records import Pair, Part, Record, RunRecord


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


class Point(Part):
    """A measurement during a training."""

    step: int
    """Updates before it."""
    loss: float
    """What is minimised, in nats per token."""
    perplexity: float
    """Of the next token."""


class HealingHistory(Part):
    """The course of a healing."""

    train: tuple[float, ...]
    """Loss of every update, in nats per token."""
    held_out: tuple[Point, ...]
    """On held-out text: the first before healing, the last of the model as written."""


class HealingFile(StepFile):
    """Everything that a step which trains tells of itself."""

    model_config = ConfigDict(extra="forbid")

    trainable_parameters: int
    """Of the low-rank change."""
    history: HealingHistory
    """The course of the training."""
    perplexity: Pair[float]
    """On held-out text."""
    zeros: int | None
    """That the linear weights of the blocks hold; null where zeros need not stay."""

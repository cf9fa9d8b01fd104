"""How the built-in base model was trained, as a file."""

from __future__ import annotations

from typing import ClassVar

from llm_pruner.system.records import Part, Record, RunRecord


class TokenCounts(Part):
    """Tokens of the built-in text."""

    train: int
    """To train on."""
    validation: int
    """To check the training by."""
    seen: int
    """Trained on, each time anew."""


class Validation(Part):
    """The trained model on validation text."""

    loss: float
    """In nats per token."""
    perplexity: float
    """Its exponential."""
    bits_per_byte: float
    """Of the text."""


class LossPoint(Part):
    """A measurement during the training."""

    step: int
    """Updates before it."""
    loss: float
    """On validation text, in nats per token."""


class LossHistory(Part):
    """The course of the training."""

    train: tuple[float, ...]
    """Loss of every update, in nats per token."""
    validation: tuple[LossPoint, ...]
    """On validation text, the last of the finished model."""


class BuiltinTraining(Record):
    """How the built-in base model was trained."""

    file: ClassVar[str] = "resources/model.json"

    parameters: int
    """Of the model."""
    tokens: TokenCounts
    """Of the built-in text."""
    validation: Validation
    """The trained model on validation text."""
    history: LossHistory
    """The course of the training."""
    run: RunRecord
    """The job that trained."""

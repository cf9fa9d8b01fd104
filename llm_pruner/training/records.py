"""The training of the built-in base model, as a file."""

from __future__ import annotations

from typing import ClassVar

from llm_pruner.system.records import Part, Record, RunRecord


class TokenCounts(Part):
    """Tokens of the built-in text."""

    train: int
    """Tokens for training."""
    validation: int
    """Tokens for validation."""
    seen: int
    """Tokens trained on, repeats included."""


class Validation(Part):
    """The trained model on validation text."""

    loss: float
    """Loss in nats per token."""
    perplexity: float
    """Exponential of the loss."""
    bits_per_byte: float
    """Loss in bits per byte of the text."""


class LossPoint(Part):
    """A measurement during the training."""

    step: int
    """Updates before the measurement."""
    loss: float
    """Loss on validation text, in nats per token."""


class LossHistory(Part):
    """The course of the training."""

    train: tuple[float, ...]
    """Loss of every update, in nats per token."""
    validation: tuple[LossPoint, ...]
    """Measurements on validation text, the last of the finished model."""


class BuiltinTraining(Record):
    """The training of the built-in base model."""

    file: ClassVar[str] = "resources/model.json"

    parameters: int
    """Parameters of the model."""
    tokens: TokenCounts
    """Of the built-in text."""
    validation: Validation
    """The trained model on validation text."""
    history: LossHistory
    """The course of the training."""
    run: RunRecord
    """The job that trained."""

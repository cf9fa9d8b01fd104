"""The result of a healing, as part of a file."""

from __future__ import annotations

from llm_pruner.system.records import Pair, Part


class Point(Part):
    """A measurement during a training."""

    step: int
    """Updates before the measurement."""
    loss: float
    """The minimised loss, in nats per token."""
    perplexity: float
    """Perplexity of the next token."""


class HealingHistory(Part):
    """The course of a healing."""

    train: tuple[float, ...]
    """Loss of every update, in nats per token."""
    held_out: tuple[Point, ...]
    """Measurements on held-out text: the first before healing, the last of the written model."""


class Healed(Part):
    """The result of a healing."""

    trainable_parameters: int
    """Parameters of the low-rank change."""
    history: HealingHistory
    """The course of the training."""
    perplexity: Pair[float]
    """Perplexity on held-out text."""
    zeros: int | None
    """Zeros in the linear weights of the blocks; null if zeros need not stay."""

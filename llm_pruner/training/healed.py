"""What came of a healing, as part of a file."""

from __future__ import annotations

from llm_pruner.system.records import Pair, Part


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


class Healed(Part):
    """What came of a healing."""

    trainable_parameters: int
    """Of the low-rank change."""
    history: HealingHistory
    """The course of the training."""
    perplexity: Pair[float]
    """On held-out text."""
    zeros: int | None
    """That the linear weights of the blocks hold; null where zeros need not stay."""

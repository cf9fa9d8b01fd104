"""Axes for the page's chart. To add an axis, add a line here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """A column of the summary as an axis."""

    column: str
    """Key of the column."""
    label: str
    more_is_better: bool = False
    error: str | None = None
    """Key of the column with its standard error."""
    of_weights: bool = False
    """Whether the axis leaves out models in few bits, whose zeros come from the number format."""


QUALITIES = (
    Axis("perplexity", "Perplexity"),
    Axis("nll_difference", "Loss against the base, nats a token", error="nll_difference_stderr"),
    Axis("kl", "KL divergence from the base, nats a token", error="kl_stderr"),
    Axis("same_top", "Same next token as the base", more_is_better=True, error="same_top_stderr"),
    Axis("bits_per_byte", "Bits per byte"),
    Axis("zero_shot_acc", "Zero-shot accuracy", more_is_better=True, error="zero_shot_stderr"),
    Axis("zero_shot_acc_norm", "Zero-shot accuracy, normalised", more_is_better=True),
)
SIZES = (
    Axis("bytes_on_disk", "Weights on disk"),
    Axis("parameters", "Parameters"),
    Axis("nonzero", "Non-zero parameters", of_weights=True),
    Axis("decode_time_share", "Decode time against the base's"),
    Axis("decode_ms", "Decode latency, ms per token"),
    Axis("prefill_ms", "Prefill latency, ms"),
    Axis("peak_memory_bytes", "Peak memory"),
)
TASK_PREFIX = "acc_"
"""Prefix of the columns with one task's accuracy; each is a further axis of quality."""

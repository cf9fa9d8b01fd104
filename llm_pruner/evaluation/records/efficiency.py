"""The result file of time and memory."""

from __future__ import annotations

from typing import ClassVar

from llm_pruner.system.records import Part, Record, RunRecord


class BatchTimes(Part):
    """Times at one batch size. Except for the medians, times are of the fastest repeat."""

    batch_size: int
    """Number of prompts in the batch."""
    prefill_seconds: float
    """Seconds of one forward pass over the prompts."""
    prefill_seconds_median: float | None = None
    """Median of these seconds over the repeats."""
    prefill_tokens_per_second: float
    """Prompt tokens per second, over all prompts."""
    decode_seconds_per_token: float
    """Seconds to decode one token of every prompt."""
    decode_seconds_per_token_median: float | None = None
    """Median of these seconds over the repeats."""
    decode_tokens_per_second: float
    """Decoded tokens per second, over all prompts."""


class EfficiencyResult(Record):
    """Time and memory of a model."""

    file: ClassVar[str] = "baselines/{variant}/evaluation/efficiency.json"

    model: str
    """Name of the model."""
    load_seconds: float
    """Seconds to load the model from its folder."""
    bytes_on_disk: int
    """Bytes of the weights."""
    peak_memory_bytes: int
    """Growth of the process by loading and running the model, in bytes."""
    device: str
    """Device of the model."""
    threads: int
    """Threads of torch on a CPU."""
    prompt_length: int
    """Tokens of each prompt."""
    new_tokens: int
    """Tokens decoded after each prompt."""
    batches: tuple[BatchTimes, ...]
    """Times at each batch size."""
    base_batches: tuple[BatchTimes, ...] = ()
    """Times of the base model, measured in turn with the model's, for speed-ups. Empty for the base itself, or if the
    base was not measured."""
    run: RunRecord
    """The job of the measurement."""

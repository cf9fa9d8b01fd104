"""How long a model takes and how much memory, as a file."""

from __future__ import annotations

from typing import ClassVar

from llm_pruner.system.records import Part, Record, RunRecord


class BatchTimes(Part):
    """Times at one batch size; the fastest of all repeats counts."""

    batch_size: int
    """Prompts at once."""
    prefill_seconds: float
    """Of one forward pass over the prompts."""
    prefill_seconds_median: float | None = None
    """Median over the repeats."""
    prefill_tokens_per_second: float
    """Prompt tokens."""
    decode_seconds_per_token: float
    """Of every further token."""
    decode_seconds_per_token_median: float | None = None
    """Median over the repeats."""
    decode_tokens_per_second: float
    """Of all prompts together."""


class EfficiencyResult(Record):
    """How long a model takes and how much memory."""

    file: ClassVar[str] = "baselines/{variant}/evaluation/efficiency.json"

    model: str
    """Name of the model."""
    load_seconds: float
    """From the folder into memory."""
    bytes_on_disk: int
    """Of the weights."""
    peak_memory_bytes: int
    """What loading and running add to the process."""
    device: str
    """Where it ran."""
    threads: int
    """Of torch, on a CPU."""
    prompt_length: int
    """Tokens of a prompt."""
    new_tokens: int
    """Decoded after it."""
    batches: tuple[BatchTimes, ...]
    """By batch size."""
    base_batches: tuple[BatchTimes, ...] = ()
    """Times of the base model, measured in turn with these; speed-ups compare with them. Empty for the base itself, or
    if it was not measured beside the model."""
    run: RunRecord
    """The job that measured."""

"""The result file of continuations."""

from __future__ import annotations

from typing import ClassVar

from llm_pruner.evaluation.records.zero_shot import ModelName
from llm_pruner.system.records import Part, Record, RunRecord


class Continuation(Part):
    """The continuation of one prompt."""

    prompt: str
    """The prompt."""
    text: str
    """The model's greedy continuation, without the prompt."""


class Continuations(ModelName, Record):
    """Continuations of a few prompts, to compare the texts of models."""

    file: ClassVar[str] = "baselines/{variant}/evaluation/continuations.json"

    new_tokens: int
    """Largest number of tokens after each prompt."""
    continuations: tuple[Continuation, ...]
    """One continuation for each prompt; empty if continuations are switched off."""
    run: RunRecord
    """The job of the measurement."""

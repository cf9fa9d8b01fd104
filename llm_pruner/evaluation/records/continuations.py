"""What a model writes after a few beginnings, as a file."""

from __future__ import annotations

from typing import ClassVar

from llm_pruner.evaluation.records.zero_shot import ModelName
from llm_pruner.system.records import Part, Record, RunRecord


class Continuation(Part):
    """What was written after one prompt."""

    prompt: str
    """The beginning."""
    text: str
    """What the model wrote after it, greedily."""


class Continuations(ModelName, Record):
    """What a model writes after a few beginnings, to be read beside another's."""

    file: ClassVar[str] = "baselines/{variant}/evaluation/continuations.json"

    new_tokens: int
    """Written after each prompt at most."""
    continuations: tuple[Continuation, ...]
    """One for each prompt; none where they are switched off."""
    run: RunRecord
    """The job that wrote."""

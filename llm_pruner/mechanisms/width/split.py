"""Files of a search for the split of the budget between attention and MLP."""

from __future__ import annotations

import os
from typing import ClassVar, Self

from pydantic import Field, model_validator

from llm_pruner.system.errors import DataError
from llm_pruner.system.records import Part, Record, RunRecord


class Trial(Part):
    """One tried split."""

    attention_share: int | None
    """Attention's share of the budget in percent; null gives both blocks the same rate."""
    split: str | None = Field(pattern=r"^\d+:\d+$")
    """The same split as shares of attention and MLP, such as ``20:80``; null for the same rate."""
    reached_share: float
    """Attention's share of the removed parameters, in percent."""
    perplexity: float
    """Perplexity on the held-out samples."""
    measured: bool
    """Whether the perplexity was measured; false if an earlier split has the same plan."""


class HeldOut(Part):
    """The held-out samples on which perplexity was measured."""

    samples: int
    """Number of samples."""
    length: int
    """Tokens in a sample."""


class SplitSearch(Record):
    """Result of a search for the split of the budget between attention and MLP."""

    file: ClassVar[str] = "resources/search/{variant}.json"

    variant: str
    """Variant whose split was searched."""
    best: Trial
    """Trial with the lowest perplexity."""
    trials: tuple[Trial, ...]
    """All trials in order; the first gives both blocks the same rate."""
    stopped_early: bool
    """Whether the search stopped before it tried the largest attention shares."""
    plans_measured: int
    """Number of different plans among the trials."""
    held_out: HeldOut
    """Samples on which perplexity was measured."""
    run: RunRecord
    """The job that searched."""

    @model_validator(mode="after")
    def _best_was_tried(self) -> Self:
        if self.best != min(self.trials, key=lambda trial: trial.perplexity, default=None):
            raise ValueError(f"best: {self.best.split or 'one rate'} is not the trial with the lowest perplexity")
        return self

    @classmethod
    def of_variant(cls, path: str | os.PathLike[str], variant: str) -> Self:
        """Read the search of a variant.

        Raises:
            DataError: if the file is missing or damaged, or holds another variant's search.
        """
        found = cls.read(path)
        if found.variant != variant:
            raise DataError(
                f"{path}: variant: the search of '{found.variant}', not of '{variant}'; delete it and run again to "
                "make it anew"
            )
        return found


class SplitTrials(Record):
    """Trials of an unfinished search, from which an interrupted search continues."""

    file: ClassVar[str] = "resources/search/.{variant}.trials.json"

    search: str
    """Digest of the search's inputs."""
    trials: tuple[Trial, ...]
    """Trials in order."""

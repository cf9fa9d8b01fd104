"""What a search for the attention : MLP split found, as a file."""

from __future__ import annotations

from typing import ClassVar

from llm_pruner.system.records import Part, Record, RunRecord


class Trial(Part):
    """One split, tried."""

    attention_share: int | None
    """Of the budget that attention gives, in percent; null gives both components one rate."""
    split: str | None
    """The same as shares of attention and MLP, such as ``20:80``."""
    reached_share: float
    """Of the parameters that go, those of attention, in percent."""
    perplexity: float
    """On the held-out samples."""
    measured: bool
    """Whether it was measured, rather than known from a split that comes to the same plan."""


class HeldOut(Part):
    """The samples that splits are judged by."""

    samples: int
    """How many."""
    length: int
    """Tokens of each."""


class SplitSearch(Record):
    """What a search for the attention : MLP split found."""

    file: ClassVar[str] = "resources/search/{variant}.json"

    variant: str
    """The variant whose split was searched."""
    best: Trial
    """With the lowest perplexity."""
    trials: tuple[Trial, ...]
    """In the order made; the first gives both components one rate."""
    stopped_early: bool
    """Whether going up was stopped before attention gave all."""
    plans_measured: int
    """Different plans among the trials."""
    held_out: HeldOut
    """The samples that splits are judged by."""
    run: RunRecord
    """The job that searched."""


class SplitTrials(Record):
    """Trials of a search that is not done, so that one that was stopped goes on where it was."""

    file: ClassVar[str] = "resources/search/.{variant}.trials.json"

    search: str
    """Digest of all that the search starts from."""
    trials: tuple[Trial, ...]
    """In the order made."""

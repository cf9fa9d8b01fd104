"""How classifiers compare, as a file."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from llm_pruner.encoders.records.classifier import Kind, Removed, TaskName
from llm_pruner.system.records import Part, Record, RunRecord

T = TypeVar("T")


class ReportedTask(TaskName):
    """What is classified, and on how much it was tested."""

    test_examples: int
    """In the test split."""


class MeasuredRun(Part):
    """One classifier, measured."""

    name: str
    """What tables call it; runs of one name differ in their seeds."""
    kind: Kind
    """What was done."""
    seed: int | None
    """Of its training; null where none is known."""
    folder: str
    """Where it lies."""
    accuracy: float
    """Share of right answers on the test split."""
    f1: float
    """Mean over the classes of the harmonic mean of precision and recall, on the test split."""
    loss: float
    """Cross-entropy with the labels on the test split, in nats per example."""
    validation: float | None
    """Accuracy on the validation split, which chose the weights; null where nothing was trained."""
    parameters: int
    """Quantised weights count as what they stand for."""
    bytes_on_disk: int
    """Of the weights."""
    memory_bytes: int
    """Of the weights in memory."""
    latency_ms: float
    """Milliseconds of a forward pass of one example, the fastest."""
    batch_ms: float
    """Milliseconds of a forward pass of a batch, the fastest."""
    reached: Removed | None
    """How much went; null for a teacher."""
    training_seconds: float
    """Wall time of the job that made it."""


class Averaged(Part, Generic[T]):
    """What is averaged over the seeds of a name."""

    accuracy: T
    """Share of right answers on the test split."""
    f1: T
    """Macro-averaged, on the test split."""
    bytes_on_disk: T
    """Of the weights."""
    memory_bytes: T
    """Of the weights in memory."""
    parameters: T
    """Quantised weights count as what they stand for."""
    latency_ms: T
    """Milliseconds of a forward pass of one example."""
    batch_ms: T
    """Milliseconds of a forward pass of a batch."""


class NameSummary(Part):
    """All runs of one name."""

    name: str
    """What tables call it."""
    kind: Kind
    """What was done."""
    seeds: tuple[int | None, ...]
    """Of its runs."""
    reached: Removed | None
    """How much went, of the first of them; null for a teacher."""
    mean: Averaged[float]
    """Over the seeds."""
    spread: Averaged[float | None]
    """Sample standard deviation over the seeds; null for a single one."""


class Problem(Part):
    """A classifier that could not be measured."""

    run: str
    """Where it lies."""
    problem: str
    """Why."""


class FinalReport(Record):
    """How classifiers compare on the test split: accuracy, size and latency."""

    file: ClassVar[str] = "results/final_report.json"

    task: ReportedTask
    """What is classified."""
    standard_error: float
    """Of one classifier's accuracy, at most, from the number of test examples."""
    batch_size: int
    """Examples in a batch whose time was taken."""
    threads: int
    """Of torch, on a CPU."""
    names: tuple[NameSummary, ...]
    """Means and spreads over seeds."""
    runs: tuple[MeasuredRun, ...]
    """Every classifier that could be measured."""
    problems: tuple[Problem, ...]
    """The others."""
    run: RunRecord
    """The job that measured."""

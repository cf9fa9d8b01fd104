"""Record of a comparison of classifiers."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from llm_pruner.encoders.records.classifier import Kind, Removed, TaskName
from llm_pruner.system.records import Part, Record, RunRecord

T = TypeVar("T")


class ReportedTask(TaskName):
    """A classification task, and the size of its test split."""

    test_examples: int
    """Examples in the test split."""


class MeasuredRun(Part):
    """Measurements of one classifier."""

    name: str
    """Name in tables; runs of the same name have different seeds."""
    kind: Kind
    """Kind of the run."""
    seed: int | None
    """Seed of the training; null if unknown."""
    folder: str
    """Folder of the run."""
    accuracy: float
    """Share of right answers on the test split."""
    f1: float
    """Mean over the classes of the harmonic mean of precision and recall, on the test split."""
    loss: float
    """Cross-entropy with the labels on the test split, in nats per example."""
    validation: float | None
    """Accuracy on the validation split, which chose the kept weights; null without training."""
    parameters: int
    """Number of parameters; a quantised weight counts as one."""
    bytes_on_disk: int
    """Bytes of the weights on disk."""
    memory_bytes: int
    """Bytes of the weights in memory."""
    latency_ms: float
    """Milliseconds of a forward pass of one example, the fastest."""
    batch_ms: float
    """Milliseconds of a forward pass of a batch, the fastest."""
    reached: Removed | None
    """Pruned shares; null for a teacher."""
    training_seconds: float
    """Wall time of the job that made the classifier."""


class Averaged(Part, Generic[T]):
    """Measurements summarised over the seeds of a name."""

    accuracy: T
    """Share of right answers on the test split."""
    f1: T
    """Macro-averaged F1 on the test split."""
    bytes_on_disk: T
    """Bytes of the weights on disk."""
    memory_bytes: T
    """Bytes of the weights in memory."""
    parameters: T
    """Number of parameters; a quantised weight counts as one."""
    latency_ms: T
    """Milliseconds of a forward pass of one example."""
    batch_ms: T
    """Milliseconds of a forward pass of a batch."""


class NameSummary(Part):
    """Summary of all runs of one name."""

    name: str
    """Name in tables."""
    kind: Kind
    """Kind of the runs."""
    seeds: tuple[int | None, ...]
    """Seeds of the runs."""
    reached: Removed | None
    """Pruned shares of the first run; null for a teacher."""
    mean: Averaged[float]
    """Mean over the seeds."""
    spread: Averaged[float | None]
    """Sample standard deviation over the seeds; null for a single seed."""


class Problem(Part):
    """Classifier that could not be measured."""

    run: str
    """Folder of the run."""
    problem: str
    """Error message."""


class FinalReport(Record):
    """How classifiers compare on the test split: accuracy, size and latency."""

    file: ClassVar[str] = "results/final_report.json"

    task: ReportedTask
    """Task of the comparison."""
    standard_error: float
    """Largest standard error of one classifier's accuracy, from the number of test examples."""
    batch_size: int
    """Examples in a timed batch."""
    threads: int
    """Threads of torch on a CPU."""
    names: tuple[NameSummary, ...]
    """Means and spreads over seeds, by name."""
    runs: tuple[MeasuredRun, ...]
    """Measured classifiers."""
    problems: tuple[Problem, ...]
    """Classifiers that could not be measured."""
    run: RunRecord
    """Job that made the report."""

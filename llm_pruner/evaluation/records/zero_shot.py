"""The result file of zero-shot accuracy."""

from __future__ import annotations

from typing import ClassVar

from llm_pruner.system.records import Part, Record, RunRecord


class TaskScores(Part):
    """Scores in one task; a score that the task does not have is null."""

    acc: float | None
    """Share of right answers."""
    acc_stderr: float | None
    """Standard error of ``acc``."""
    acc_norm: float | None
    """Share of right answers, with log-likelihoods divided by the length of the answer."""
    acc_norm_stderr: float | None
    """Standard error of ``acc_norm``."""
    perplexity: float | None
    """Perplexity of the right answers."""
    perplexity_stderr: float | None
    """Standard error of ``perplexity``."""
    items: int
    """Number of questions."""
    num_fewshot: int
    """Examples before each question."""


class MeanScores(Part):
    """Scores over all tasks."""

    acc: float
    """Mean share of right answers."""
    acc_stderr: float
    """Standard error of ``acc``, with tasks taken as independent."""
    acc_norm: float
    """Mean over tasks of ``acc_norm``, or of ``acc`` for a task without ``acc_norm``."""


class TaskResults(Part):
    """Scores by task, and over all tasks."""

    tasks: dict[str, TaskScores]
    """Scores by name of the task."""
    mean: MeanScores
    """Scores over all tasks."""


class ModelName(Part):
    """Model of a measurement."""

    model: str
    """Name of the model."""


class ZeroShotResult(TaskResults, ModelName, Record):
    """Zero-shot accuracy of a model."""

    file: ClassVar[str] = "baselines/{variant}/evaluation/zero_shot.json"

    run: RunRecord
    """The job of the measurement."""

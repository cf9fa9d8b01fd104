"""How well a model answers without being trained to, as a file."""

from __future__ import annotations

from typing import ClassVar

from llm_pruner.system.records import Part, Record, RunRecord


class TaskScores(Part):
    """Scores in one task; null where it has no such score."""

    acc: float | None
    """Share of right answers."""
    acc_stderr: float | None
    """Its standard error."""
    acc_norm: float | None
    """The same with likelihoods divided by the length of the answer."""
    acc_norm_stderr: float | None
    """Its standard error."""
    perplexity: float | None
    """Of the right answers."""
    perplexity_stderr: float | None
    """Its standard error."""
    items: int
    """Questions asked."""
    num_fewshot: int
    """Examples before each."""


class MeanScores(Part):
    """Scores over all tasks."""

    acc: float
    """Mean share of right answers."""
    acc_stderr: float
    """Its standard error, tasks taken as independent."""
    acc_norm: float
    """Mean of ``acc_norm``, or of ``acc`` where a task has no other."""


class TaskResults(Part):
    """Scores by task, and over all."""

    tasks: dict[str, TaskScores]
    """By the task's name."""
    mean: MeanScores
    """Over all tasks."""


class ModelName(Part):
    """Which model was measured."""

    model: str
    """Name of the model."""


class ZeroShotResult(TaskResults, ModelName, Record):
    """How well a model answers without being trained to."""

    file: ClassVar[str] = "baselines/{variant}/evaluation/zero_shot.json"

    run: RunRecord
    """The job that measured."""

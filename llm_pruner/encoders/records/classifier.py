"""Record of a classifier: data, training and results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self, get_args

from pydantic import model_validator

from llm_pruner.system.records import Part, Record, RunRecord

Kind = Literal["Teacher", "Student", "Pruned", "PTQ", "QKD"]
"""Kind of a run; a Student is distilled without pruning."""
TEACHER, STUDENT, PRUNED, PTQ, QKD = KINDS = get_args(Kind)

_TRAINED = ("task", "validation", "history")
_REQUIRED: Mapping[Kind, tuple[str, ...]] = {
    TEACHER: _TRAINED,
    STUDENT: (*_TRAINED, "reached", "layers"),
    PRUNED: (*_TRAINED, "reached", "layers"),
    PTQ: ("reached", "bits"),
    QKD: (*_TRAINED, "reached", "bits"),
}
"""Fields that a record of each kind must have, besides the fields of all kinds."""


class TaskName(Part):
    """A classification task."""

    name: str
    """Name of the data set."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of their numbers."""


class CurvePoint(Part):
    """A measurement on the validation split during a training."""

    step: int
    """Updates before the measurement."""
    accuracy: float
    """Share of right answers."""
    f1: float
    """Mean over the classes of the harmonic mean of precision and recall."""
    loss: float
    """Cross-entropy with the labels, in nats per example."""
    sparsity: float | None = None
    """Pruned share of the parameters of all groups, for a training that prunes."""


class TrainingCourse(Part):
    """The course of a training."""

    steps: int
    """Planned updates."""
    train: tuple[float, ...]
    """Loss of each update made."""
    points: tuple[CurvePoint, ...]
    """Measurements on the validation split."""
    best: CurvePoint
    """Point whose weights are kept."""
    stopped_early: bool
    """Whether ``patience`` stopped the training before the last update."""


class Removed(Part):
    """Pruned shares, relative to the classifier before any pruning."""

    parameters: float
    """Pruned share of the parameters of all heads and neurons."""
    heads: float
    """Pruned share of the attention heads."""
    neurons: float
    """Pruned share of the FFN neurons."""


class LayerLeft(Part):
    """Size of a layer after pruning and before it."""

    heads: tuple[int, int]
    """Attention heads: number after pruning, and before it."""
    neurons: tuple[int, int]
    """FFN neurons: number after pruning, and before it."""


class ClassifierRecord(Record):
    """How a classifier was made; the teacher's record is ``encoders/Teacher/record.json``."""

    file: ClassVar[str] = "encoders/{row}/seed_{seed}/record.json"

    name: str
    """Name in tables."""
    kind: Kind
    """Kind of the run; a ``Student`` is distilled without pruning."""
    seed: int | None
    """Seed of the training; null if unknown."""
    task: TaskName | None = None
    """Task of the training; missing for PTQ, which does not train."""
    validation: CurvePoint | None = None
    """Validation measurement of the kept weights; missing for PTQ."""
    bytes_on_disk: int
    """Bytes of the weights on disk."""
    history: TrainingCourse | None = None
    """Course of the training; missing for PTQ."""
    reached: Removed | None = None
    """Pruned shares; missing for a teacher."""
    layers: tuple[LayerLeft, ...] = ()
    """Size of each layer; for the kinds Student and Pruned."""
    bits: dict[str, Literal[4, 8]] | None = None
    """Bits of each quantised linear layer, by name; for the kinds PTQ and QKD."""
    run: RunRecord
    """Job that made the classifier."""

    @model_validator(mode="after")
    def _has_the_fields_of_its_kind(self) -> Self:
        lacking = [name for name in _REQUIRED[self.kind] if not getattr(self, name)]
        if lacking:
            raise ValueError(f"{', '.join(lacking)}: missing, and every record of kind {self.kind} has it")
        return self

"""How a classifier was made, as a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self, get_args

from pydantic import model_validator

from llm_pruner.system.records import Part, Record, RunRecord

Kind = Literal["Teacher", "Student", "Pruned", "PTQ", "QKD"]
"""What a run may have made; Student is one that was distilled and lost nothing."""
TEACHER, STUDENT, PRUNED, PTQ, QKD = KINDS = get_args(Kind)

_TRAINED = ("task", "validation", "history")
_TOLD: Mapping[Kind, tuple[str, ...]] = {
    TEACHER: _TRAINED,
    STUDENT: (*_TRAINED, "reached", "layers"),
    PRUNED: (*_TRAINED, "reached", "layers"),
    PTQ: ("reached", "bits"),
    QKD: (*_TRAINED, "reached", "bits"),
}
"""What the record of a kind tells besides what all do."""


class TaskName(Part):
    """What is classified."""

    name: str
    """Of the data set."""
    classes: tuple[str, ...]
    """In the order of their numbers."""


class CurvePoint(Part):
    """A measurement on the validation split during a training."""

    step: int
    """Updates before it."""
    accuracy: float
    """Share of right answers."""
    f1: float
    """Mean over the classes of the harmonic mean of precision and recall."""
    loss: float
    """Cross-entropy with the labels, in nats per example."""
    sparsity: float | None = None
    """Share of the groups' parameters that were gone by then; of a training that prunes."""


class TrainingCourse(Part):
    """The course of a training."""

    steps: int
    """Updates asked for."""
    train: tuple[float, ...]
    """Loss of every update made."""
    points: tuple[CurvePoint, ...]
    """On the validation split."""
    best: CurvePoint
    """The point whose weights were kept."""
    stopped_early: bool
    """Whether patience ended before the last update."""


class Removed(Part):
    """Shares of the classifier as it was before anything was cut that are gone."""

    parameters: float
    """Of the parameters of all heads and neurons."""
    heads: float
    """Of the attention heads."""
    neurons: float
    """Of the FFN neurons."""


class LayerLeft(Part):
    """What is left of a layer, and of how much."""

    heads: tuple[int, int]
    """Attention heads: those left, and those there were."""
    neurons: tuple[int, int]
    """FFN neurons: those left, and those there were."""


class ClassifierRecord(Record):
    """How a classifier was made; the teacher's is ``encoders/Teacher/record.json``."""

    file: ClassVar[str] = "encoders/{row}/seed_{seed}/record.json"

    name: str
    """What tables call it."""
    kind: Kind
    """What was done; ``Student`` was distilled and lost nothing."""
    seed: int | None
    """Of its training; null where none is known."""
    task: TaskName | None = None
    """What it was trained on; lacking for PTQ, which trains nothing."""
    validation: CurvePoint | None = None
    """The measurement whose weights were kept; lacking for PTQ."""
    bytes_on_disk: int
    """Of the weights."""
    history: TrainingCourse | None = None
    """The course of the training; lacking for PTQ."""
    reached: Removed | None = None
    """How much went; lacking for a teacher."""
    layers: tuple[LayerLeft, ...] = ()
    """What is left, layer by layer; of a Student or a Pruned one."""
    bits: dict[str, Literal[4, 8]] | None = None
    """In how many bits each linear layer is stored, by its name; of PTQ and QKD."""
    run: RunRecord
    """The job that made it."""

    @model_validator(mode="after")
    def _tells_what_its_kind_does(self) -> Self:
        lacking = [name for name in _TOLD[self.kind] if not getattr(self, name)]
        if lacking:
            raise ValueError(f"{', '.join(lacking)}: missing, and every record of kind {self.kind} has it")
        return self

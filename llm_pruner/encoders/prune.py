"""KGSP and MSP: structured pruning of a classifier while it is fine-tuned with distillation.

Masks rise along a schedule, by an importance gathered on the way; what is masked at the end is cut away.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from llm_pruner.encoders.architecture import check_sparsity, unquantized_encoder
from llm_pruner.encoders.folder import load_classifier
from llm_pruner.encoders.importance import (
    GradientWindow,
    Groups,
    choose,
    importance,
    magnitudes,
)
from llm_pruner.encoders.masking import Masks
from llm_pruner.encoders.objective import Student
from llm_pruner.encoders.options import PruningOptions, TaskOptions
from llm_pruner.encoders.records.classifier import PRUNED, STUDENT, ClassifierRecord, LayerLeft, Removed
from llm_pruner.encoders.runs import Workplace
from llm_pruner.encoders.schedule import Schedule
from llm_pruner.encoders.surgery import cut_classifier
from llm_pruner.encoders.tasks import Batch
from llm_pruner.encoders.training import Course, steps_of
from llm_pruner.system.errors import ConfigError


def prune_classifier(
    teacher: Path,
    output: Path,
    task: TaskOptions,
    options: PruningOptions,
    *,
    student: Path | None = None,
    name: str = "Pruned",
    device: str = "auto",
    progress: bool = False,
) -> ClassifierRecord:
    """Prune a classifier and write ``output/model``, ``output/record.json`` and ``output/curves.png``.

    Args:
        teacher: folder of the classifier that is followed.
        output: folder of the run; a checkpoint in it is taken up.
        student: folder of what is pruned, which may have been pruned before; the teacher itself by default.
        name: what the run is called in tables.

    Raises:
        PlanError: if the sparsity would leave a layer without heads or neurons.
        ConfigError: if the schedule does not fit the training.
        CheckpointError: if a model cannot be read or the training diverges.
        DataError: if the task cannot be read.
    """
    source = student or teacher
    encoder = unquantized_encoder(source)
    check_sparsity(encoder, options)
    place = Workplace(output, task, options, device)
    groups = Groups(encoder)
    train, validation = place.splits(source, "train", "validation")
    final_step = _final_step(options, steps_of(options, len(train.labels)))
    model = load_classifier(source, device=place.device)
    masks = Masks(model, groups)
    learner = place.seeded(lambda: Student(model, load_classifier(teacher, device=place.device), options))
    course = PruningCourse(learner, groups, masks, options, final_step)
    history = place.fit(course, train, validation, teacher, source, name=name, progress=progress)
    masks.detach()
    heads, neurons = masks.survivors()
    smaller = cut_classifier(encoder, model.state_dict(), heads, neurons)
    reached = course.reached()
    return place.finish(
        smaller,
        source,
        history,
        kind=PRUNED if reached.parameters else STUDENT,
        name=name,
        reached=reached,
        layers=tuple(
            LayerLeft(heads=(left.heads, width.heads), neurons=(left.neurons, width.neurons))
            for left, width in zip(masks.widths(), encoder.whole.layers, strict=True)
        ),
    )


class PruningCourse(Course):
    """Distillation, while masks take away what matters least."""

    def __init__(
        self, student: Student, groups: Groups, masks: Masks, options: PruningOptions, final_step: int
    ) -> None:
        super().__init__(student, student.model)
        self.student = student
        self.groups = groups
        self.masks = masks
        self.options = options
        self.schedule = Schedule(options, final_step)
        self.window = GradientWindow(student.model, groups, options.pruning_window_steps)
        self.pruned: list[int] = []

    def begin(self, step: int) -> None:
        final = self.schedule.final_step
        due = step == final or (self.options.start_step < step < final and step % self.options.mask_every == 0)
        if due and any(self.options.targets):
            scores = importance(magnitudes(self.model, self.groups), self.window.mean(), self.groups, self.options)
            self.pruned = choose(scores, self.groups, self.pruned, self.schedule.share(step), self.options)
            self.masks.prune(self.pruned)

    def loss(self, batch: Batch) -> torch.Tensor:
        heads, _ = self.masks.by_layer()
        return self.student.loss(batch, heads)

    def after_backward(self) -> None:
        self.window.collect()

    def checked(self, point: Mapping[str, Any]) -> None:
        self.schedule.checked(point["accuracy"])

    def is_eligible(self, step: int) -> bool:
        return step > self.schedule.final_step

    def describe(self) -> dict[str, Any]:
        return {"sparsity": self.reached().parameters}

    def reached(self) -> Removed:
        """Shares of the whole model that are masked or were cut before."""
        return self.groups.encoder.removed(self.masks.widths())

    def tensors(self) -> dict[str, torch.Tensor]:
        seen = self.window.seen
        return {"window": torch.stack(list(seen)) if seen else torch.zeros(0, len(self.groups.block))}

    def state(self) -> dict[str, Any]:
        return {"pruned": self.pruned, "schedule": self.schedule.state()}

    def restore(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any], step: int) -> None:
        self.window.seen.extend(tensors["window"].cpu())
        self.pruned = state["pruned"]
        self.masks.prune(self.pruned)
        self.schedule.restore(state["schedule"])


def _final_step(options: PruningOptions, steps: int) -> int:
    final = options.final_step or max(options.start_step + 1, steps // 2)
    if not options.start_step < final < steps:
        raise ConfigError(
            [
                f"final_step {final} must lie behind start_step {options.start_step} and before the last of the "
                f"{steps} steps, so that something is trained at the final sparsity"
            ],
            "pruning",
        )
    return final

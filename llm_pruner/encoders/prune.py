"""KGSP and MSP: structured pruning of a classifier during fine-tuning with distillation.

A schedule masks more and more groups by importance; the groups masked at the end are cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from llm_pruner.encoders.architecture import check_pruned_share, unquantized_shape
from llm_pruner.encoders.folder import load_classifier
from llm_pruner.encoders.group_scores import (
    GradientWindow,
    Groups,
    choose,
    group_scores,
    magnitudes,
)
from llm_pruner.encoders.masking import Masks
from llm_pruner.encoders.objective import Student
from llm_pruner.encoders.options import PruningOptions, TaskOptions
from llm_pruner.encoders.records.classifier import PRUNED, STUDENT, ClassifierRecord, LayerLeft, Removed
from llm_pruner.encoders.runs import TrainingRun
from llm_pruner.encoders.schedule import Schedule
from llm_pruner.encoders.surgery import cut_classifier
from llm_pruner.encoders.tasks import Batch
from llm_pruner.encoders.training import ClassifierTraining, updates_of
from llm_pruner.system.errors import ConfigError
from llm_pruner.system.runtime import Runtime


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
    """Prune a classifier, and write ``output/model`` and ``output/record.json``.

    Args:
        teacher: model folder of the teacher.
        output: folder of the run; the training resumes from a resume point in it.
        student: model folder of the classifier to prune, which may be pruned already; the teacher by default.
        name: name of the run in tables.

    Raises:
        PlanError: if the pruned share would leave a layer without heads or neurons.
        ConfigError: if the schedule does not fit the training.
        CheckpointError: if a model cannot be read or the training diverges.
        DataError: if the task cannot be read.
    """
    source = student or teacher
    shape = unquantized_shape(source)
    check_pruned_share(shape, options)
    run = TrainingRun(output, task, options, Runtime(device, progress=progress))
    groups = Groups(shape)
    train, validation = run.splits(source, "train", "validation")
    final_update = _final_update(options, updates_of(options, len(train.labels)))
    model = load_classifier(source, device=run.runtime.device)
    masks = Masks(model, groups)
    learner = run.seeded(lambda: Student(model, load_classifier(teacher, device=run.runtime.device), options))
    training = PruningTraining(learner, groups, masks, options, final_update)
    history = run.fit(training, train, validation, teacher, source, name=name)
    masks.detach()
    heads, neurons = masks.survivors()
    smaller = cut_classifier(shape, model.state_dict(), heads, neurons)
    reached = training.reached()
    return run.finish(
        smaller,
        source,
        history,
        kind=PRUNED if reached.parameters else STUDENT,
        name=name,
        reached=reached,
        layers=tuple(
            LayerLeft(heads=(left.heads, width.heads), neurons=(left.neurons, width.neurons))
            for left, width in zip(masks.widths(), shape.whole.layers, strict=True)
        ),
    )


class PruningTraining(ClassifierTraining):
    """Distillation that masks the least important groups along a schedule."""

    def __init__(
        self, student: Student, groups: Groups, masks: Masks, options: PruningOptions, final_update: int
    ) -> None:
        super().__init__(student, student.model)
        self.student = student
        self.groups = groups
        self.masks = masks
        self.options = options
        self.schedule = Schedule(options, final_update)
        self.window = GradientWindow(student.model, groups, options.pruning_window_steps)
        self.pruned: list[int] = []

    def begin(self, update: int) -> None:
        final = self.schedule.final_update
        due = update == final or (self.options.start_step < update < final and update % self.options.mask_every == 0)
        if due and any(self.options.targets):
            scores = group_scores(magnitudes(self.model, self.groups), self.window.mean(), self.groups, self.options)
            self.pruned = choose(scores, self.groups, self.pruned, self.schedule.share(update), self.options)
            self.masks.prune(self.pruned)

    def loss(self, batch: Batch) -> torch.Tensor:
        heads, _ = self.masks.by_layer()
        return self.student.loss(batch, heads)

    def after_backward(self) -> None:
        self.window.collect()

    def checked(self, point: Mapping[str, Any]) -> None:
        self.schedule.checked(point["accuracy"])

    def is_eligible(self, update: int) -> bool:
        return update > self.schedule.final_update

    def describe(self) -> dict[str, Any]:
        return {"sparsity": self.reached().parameters}

    def reached(self) -> Removed:
        """Shares of the whole model that are masked, or were cut earlier."""
        return self.groups.shape.removed(self.masks.widths())

    def tensors(self) -> dict[str, torch.Tensor]:
        seen = self.window.seen
        return {"window": torch.stack(list(seen)) if seen else torch.zeros(0, len(self.groups.block))}

    def state(self) -> dict[str, Any]:
        return {"pruned": self.pruned, "schedule": self.schedule.state()}

    def restore(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any], update: int) -> None:
        self.window.seen.extend(tensors["window"].cpu())
        self.pruned = state["pruned"]
        self.masks.prune(self.pruned)
        self.schedule.restore(state["schedule"])


def _final_update(options: PruningOptions, updates: int) -> int:
    final = options.final_step or max(options.start_step + 1, updates // 2)
    if not options.start_step < final < updates:
        raise ConfigError(
            [
                f"final_step {final} must lie after start_step {options.start_step} and below the {updates} updates of "
                f"the training, so that updates at the final pruned share remain; change it, or set more epochs"
            ],
            "pruning",
        )
    return final

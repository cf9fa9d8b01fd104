"""Training and evaluation of classifiers: teachers, pruned students and quantised students."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from llm_pruner.data.order import sample_order
from llm_pruner.encoders.options import TrainingOptions
from llm_pruner.encoders.records.classifier import CurvePoint, TrainingCourse
from llm_pruner.encoders.tasks import Batch
from llm_pruner.system.errors import CheckpointError
from llm_pruner.system.runtime import ON_CPU, Runtime
from llm_pruner.training import loop
from llm_pruner.training.loop import Schedule, TrainingTask
from llm_pruner.training.schedule import rate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_EVALUATION_BATCH = 128


class ClassifierTraining(TrainingTask):
    """Training of a classifier with AdamW; keeps the weights of the best validation accuracy."""

    def __init__(self, trained: nn.Module, model: PreTrainedModel) -> None:
        self.trained = trained
        self.model = model

    def bind(self, train: Batch, validation: Batch, options: TrainingOptions) -> None:
        """Set the data and the options of the training; call before it starts."""
        self.train, self.validation, self.training_options = train, validation, options
        self.remedy = f"lower the learning_rate, which is {options.learning_rate:g}"
        updates = updates_of(options, len(train.labels))
        self.order = sample_order(len(train.labels), (updates, options.batch_size), options.seed)

    def loss(self, batch: Batch) -> torch.Tensor:
        """Loss of a batch, a scalar."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Further fields of a point of the curve, besides accuracy, F1 and loss."""
        return {}

    def optimizers(self) -> list[torch.optim.Optimizer]:
        learning = [parameter for parameter in self.trained.parameters() if parameter.requires_grad]
        options = self.training_options
        return [torch.optim.AdamW(learning, lr=options.learning_rate, weight_decay=options.weight_decay)]

    def gradients(self, update: int) -> float:
        loss = self.loss(self.train.rows(self.order[update], str(self.model.device)))
        loss.backward()
        return loss.item()

    def measure(self, update: int) -> dict[str, Any]:
        return {"step": update, **evaluate(self.model, self.validation), **self.describe()}

    def score(self, point: Mapping[str, Any]) -> float:
        accuracy: float = point["accuracy"]
        return accuracy


def updates_of(options: TrainingOptions, examples: int) -> int:
    """Number of updates for these ``examples``: at least one, or none for 0 epochs."""
    return max(1, round(options.epochs * examples / options.batch_size)) if options.epochs else 0


def fit(
    training: ClassifierTraining,
    train: Batch,
    validation: Batch,
    options: TrainingOptions,
    *,
    resume_point: Path | None = None,
    identity: str = "",
    name: str = "training",
    runtime: Runtime = ON_CPU,
) -> TrainingCourse:
    """Train in place; the model ends with the weights of the highest validation accuracy.

    The training resumes from ``resume_point`` after an interruption. On a CPU, with the same seed and number of
    threads, the result is identical to the bit.

    Args:
        resume_point: folder for the resume point, written at each check, including the last.
        identity: hash of options, data and initial models; a resume point of another identity is ignored.
        name: title of the progress bar.
        runtime: device of the model, and whether to show progress.

    Raises:
        CheckpointError: if the loss is not finite.
    """
    updates = updates_of(options, len(train.labels))
    training.bind(train, validation, options)
    schedule = Schedule(
        steps=updates,
        factor=lambda update: rate(update, updates, options.warmup),
        checks=frozenset({0, *(round(check * updates / options.checks) for check in range(1, options.checks + 1))}),
        clip=options.clip,
        patience=options.patience,
    )
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(options.seed)
        history = loop.fit(
            training,
            schedule,
            resume_point=resume_point,
            identity=identity,
            name=name,
            runtime=runtime,
        )
    assert history.best  # the last point may always be the best
    return TrainingCourse(
        steps=updates,
        train=tuple(history.losses),
        points=tuple(CurvePoint(**point) for point in history.points),
        best=CurvePoint(**history.best),
        stopped_early=history.stopped_early,
    )


def evaluate(model: PreTrainedModel, batch: Batch) -> dict[str, float]:
    """Measure ``accuracy``, macro-averaged ``f1`` and ``loss`` (nats per example), in evaluation mode.

    Raises:
        CheckpointError: if the logits are not finite.
    """
    model.eval()
    rows = []
    with torch.inference_mode():
        for index in torch.arange(len(batch.labels)).split(_EVALUATION_BATCH):
            part = batch.rows(index, str(model.device))
            rows.append(model(**part.inputs(model)).logits.float().cpu())
    logits = torch.cat(rows)
    if not logits.isfinite().all():
        raise CheckpointError(
            "the model's logits are not finite: it is damaged, or its training diverged; lower its learning_rate"
        )
    predicted = logits.argmax(1)
    right = predicted == batch.labels
    f1 = [
        2
        * float((right & (predicted == label)).sum())
        / max(1, int((predicted == label).sum() + (batch.labels == label).sum()))
        for label in range(logits.shape[1])
    ]
    return {
        "accuracy": right.float().mean().item(),
        "f1": sum(f1) / len(f1),
        "loss": nn.functional.cross_entropy(logits, batch.labels).item(),
    }

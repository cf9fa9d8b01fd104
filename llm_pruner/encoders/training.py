"""How classifiers are trained and judged: teachers, pruned students and quantised ones."""

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
from llm_pruner.system.runtime import Runtime
from llm_pruner.training import loop
from llm_pruner.training.loop import Schedule, TrainingTask
from llm_pruner.training.schedule import rate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_EVALUATION_BATCH = 128


class Course(TrainingTask):
    """The training of a classifier: AdamW, the best validation accuracy counts."""

    def __init__(self, trained: nn.Module, model: PreTrainedModel) -> None:
        self.trained = trained
        self.model = model

    def bind(self, train: Batch, validation: Batch, options: TrainingOptions) -> None:
        """Say what the model is trained and judged on, and how."""
        self.train, self.validation, self.training = train, validation, options
        self.remedy = f"lower the learning_rate, which is {options.learning_rate:g}"
        steps = steps_of(options, len(train.labels))
        self.order = sample_order(len(train.labels), (steps, options.batch_size), options.seed)

    def loss(self, batch: Batch) -> torch.Tensor:
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """What a point of the curve tells besides accuracy and loss."""
        return {}

    def optimizers(self) -> list[torch.optim.Optimizer]:
        learning = [parameter for parameter in self.trained.parameters() if parameter.requires_grad]
        options = self.training
        return [torch.optim.AdamW(learning, lr=options.learning_rate, weight_decay=options.weight_decay)]

    def gradients(self, step: int) -> float:
        loss = self.loss(self.train.rows(self.order[step], str(self.model.device)))
        loss.backward()
        return loss.item()

    def measure(self, step: int) -> dict[str, Any]:
        return {"step": step, **evaluate(self.model, self.validation), **self.describe()}

    def score(self, point: Mapping[str, Any]) -> float:
        accuracy: float = point["accuracy"]
        return accuracy


def steps_of(options: TrainingOptions, examples: int) -> int:
    """Updates in so many epochs: one at least, if any are asked for."""
    return max(1, round(options.epochs * examples / options.batch_size)) if options.epochs else 0


def fit(
    course: Course,
    train: Batch,
    validation: Batch,
    options: TrainingOptions,
    *,
    resume_point: Path | None = None,
    identity: str = "",
    name: str = "training",
    progress: bool = False,
) -> TrainingCourse:
    """Train in place, and leave the model with the weights of the highest validation accuracy.

    Resumes from ``resume_point`` after an interruption; on a CPU, with the same seed and number of threads, the result
    is identical to the bit.

    Args:
        resume_point: folder written at every check, the last included.
        identity: what a resume point must belong to; another's is not taken up.

    Raises:
        CheckpointError: if the loss is not finite.
    """
    steps = steps_of(options, len(train.labels))
    course.bind(train, validation, options)
    schedule = Schedule(
        steps=steps,
        factor=lambda step: rate(step, steps, options.warmup),
        checks=frozenset({0, *(round(check * steps / options.checks) for check in range(1, options.checks + 1))}),
        clip=options.clip,
        patience=options.patience,
    )
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(options.seed)
        history = loop.fit(
            course,
            schedule,
            resume_point=resume_point,
            identity=identity,
            name=name,
            runtime=Runtime(str(course.model.device), options.batch_size, progress),
        )
    assert history.best  # the last point is always eligible
    return TrainingCourse(
        steps=steps,
        train=tuple(history.losses),
        points=tuple(CurvePoint(**point) for point in history.points),
        best=CurvePoint(**history.best),
        stopped_early=history.stopped_early,
    )


def evaluate(model: PreTrainedModel, batch: Batch) -> dict[str, float]:
    """``accuracy``, macro-averaged ``f1`` and ``loss`` (nats per example), in evaluation mode.

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
        raise CheckpointError("the model's logits are not finite; it is damaged, or its training diverged")
    said = logits.argmax(1)
    right = said == batch.labels
    scores = [
        2 * float((right & (said == label)).sum()) / max(1, int((said == label).sum() + (batch.labels == label).sum()))
        for label in range(logits.shape[1])
    ]
    return {
        "accuracy": right.float().mean().item(),
        "f1": sum(scores) / len(scores),
        "loss": nn.functional.cross_entropy(logits, batch.labels).item(),
    }

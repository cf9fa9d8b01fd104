"""The one training loop of teachers, pruned students and quantised ones: resumable, early to stop, keeps the best."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from llm_pruner.data.order import sample_order
from llm_pruner.encoders.options import TrainingOptions
from llm_pruner.encoders.tasks import Batch
from llm_pruner.system.errors import CheckpointError
from llm_pruner.system.files import read_json, staged_directory, write_json
from llm_pruner.system.progress import track
from llm_pruner.system.provenance import sha256
from llm_pruner.training.schedule import rate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_EVALUATION_BATCH = 128


class Course:
    """What a kind of training adds to the loop. ``trained`` holds everything that learns."""

    def __init__(self, trained: nn.Module, model: PreTrainedModel) -> None:
        self.trained = trained
        self.model = model

    def loss(self, batch: Batch) -> torch.Tensor:
        raise NotImplementedError

    def begin(self, step: int) -> None:
        """Before the forward pass of a step, counted from 0."""

    def after_backward(self) -> None:
        """While gradients are there, before they are clipped."""

    def checked(self, accuracy: float) -> None:
        """After a check."""

    def describe(self) -> dict[str, Any]:
        """What a point of the curve tells besides accuracy and loss."""
        return {}

    def is_eligible(self, step: int) -> bool:
        """Whether the weights after so many steps may be the best."""
        return True

    def tensors(self) -> dict[str, torch.Tensor]:
        """What has to be kept besides the weights."""
        return {}

    def state(self) -> dict[str, Any]:
        """The same, as JSON."""
        return {}

    def restore(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Take up what ``tensors`` and ``state`` gave."""


def steps_of(options: TrainingOptions, examples: int) -> int:
    """Updates in so many epochs: one at least, if any are asked for."""
    return max(1, round(options.epochs * examples / options.batch_size)) if options.epochs else 0


def fit(
    course: Course,
    train: Batch,
    validation: Batch,
    options: TrainingOptions,
    *,
    checkpoint: Path | None = None,
    identity: str = "",
    name: str = "training",
    progress: bool = False,
) -> dict[str, Any]:
    """Train in place, and leave the model with the weights of the highest validation accuracy.

    A training that was killed goes on from ``checkpoint``, and ends as if nothing had been: on a CPU the same seed and
    number of threads give the same bytes.

    Args:
        checkpoint: folder written at every check, the last included.
        identity: what a checkpoint must belong to; of another it is not taken up.

    Returns:
        ``steps`` asked for, ``train`` losses of those made, ``points`` of ``step``, ``loss`` and ``accuracy`` on
        validation, ``best``, the point whose weights were kept, and ``stopped_early``.

    Raises:
        CheckpointError: if the loss is not finite.
    """
    steps = steps_of(options, len(train.labels))
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(options.seed)
        return _Loop(course, options, steps, checkpoint, identity).run(train, validation, name, progress)


class _Loop:
    def __init__(
        self, course: Course, options: TrainingOptions, steps: int, checkpoint: Path | None, identity: str
    ) -> None:
        self.course = course
        self.options = options
        self.steps = steps
        self.checkpoint = checkpoint
        self.identity = identity
        self.parameters = [parameter for parameter in course.trained.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, weight_decay=options.weight_decay)
        self.best_weights: dict[str, torch.Tensor] = {}
        self.state: dict[str, Any] = {
            "step": 0,
            "losses": [],
            "points": [],
            "best": None,
            "worse": 0,
            "stopped_early": False,
        }

    def run(self, train: Batch, validation: Batch, name: str, progress: bool) -> dict[str, Any]:
        steps, options = self.steps, self.options
        device = str(self.course.model.device)
        checks = {round(check * steps / options.checks) for check in range(1, options.checks + 1)}
        resumed = self._resume()
        state = self.state
        order = sample_order(len(train.labels), (steps, options.batch_size), options.seed)
        if not resumed:
            self._check(validation, 0)
        bar = track(range(state["step"], steps), name, "step", show=progress)
        for step in bar:
            if state["stopped_early"]:
                break
            self.course.begin(step)
            self.course.trained.train()
            loss = self.course.loss(train.rows(order[step], device))
            loss.backward()
            self._keep(loss.item(), step)
            self.course.after_backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, options.clip)
            for group in self.optimizer.param_groups:
                group["lr"] = options.learning_rate * rate(step, steps, options.warmup)
            self.optimizer.step()
            self.optimizer.zero_grad()
            if step + 1 in checks:
                point = self._check(validation, step + 1)
                bar.set_postfix(loss=f"{loss.item():.2f}", accuracy=f"{point['accuracy']:.3f}", refresh=False)
        self.course.trained.load_state_dict(self.best_weights)
        return {
            "steps": steps,
            "train": state["losses"],
            **{key: state[key] for key in ("points", "best", "stopped_early")},
        }

    def _keep(self, loss: float, step: int) -> None:
        if not math.isfinite(loss):
            raise CheckpointError(
                f"training diverged: loss {loss} at step {step}; lower the learning_rate, "
                f"which is {self.options.learning_rate:g}"
            )
        self.state["losses"].append(loss)

    def _check(self, validation: Batch, step: int) -> dict[str, Any]:
        """Measure, remember the best, keep a checkpoint."""
        state = self.state
        measured = evaluate(self.course.model, validation)
        point = {"step": step, **measured, **self.course.describe()}
        state["points"].append(point)
        state["step"] = step
        if self.course.is_eligible(step):
            if state["best"] is None or point["accuracy"] > state["best"]["accuracy"]:
                state["best"], state["worse"] = point, 0
                self.best_weights = {key: value.clone() for key, value in self.course.trained.state_dict().items()}
            else:
                state["worse"] += 1
            state["stopped_early"] = self.options.patience is not None and state["worse"] >= self.options.patience
        self.course.checked(point["accuracy"])
        if self.checkpoint:
            self._save(self.checkpoint)
        return point

    def _save(self, folder: Path) -> None:
        from safetensors.torch import save_file

        moments = self.optimizer.state_dict()["state"]
        tensors = {
            **{f"weights/{key}": value for key, value in self.course.trained.state_dict().items()},
            **{f"best/{key}": value for key, value in self.best_weights.items()},
            **{f"moments/{index}/{key}": value for index, own in moments.items() for key, value in own.items()},
            **{f"course/{key}": value for key, value in self.course.tensors().items()},
            "random": torch.get_rng_state(),
        }
        with staged_directory(folder) as staged:
            # cloned, since tensors that share memory are refused
            save_file({key: value.detach().clone() for key, value in tensors.items()}, staged / "tensors.safetensors")
            state = {"identity": self.identity, "loop": self.state, "course": self.course.state()}
            write_json(staged / "state.json", state)

    def _resume(self) -> bool:
        """Go on from the checkpoint, if there is one of this very training."""
        folder = self.checkpoint
        if folder is None or not (folder / "state.json").exists():
            return False
        kept = read_json(folder / "state.json")
        if kept["identity"] != self.identity:
            return False
        from safetensors.torch import load_file

        tensors = load_file(folder / "tensors.safetensors", device=str(self.course.model.device))
        self.course.trained.load_state_dict(_under("weights/", tensors))
        self.best_weights = _under("best/", tensors)
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in _under("moments/", tensors).items():
            index, _, what = key.partition("/")
            moments.setdefault(int(index), {})[what] = value
        self.optimizer.load_state_dict({"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.course.restore(_under("course/", tensors), kept["course"])
        torch.set_rng_state(tensors["random"].cpu())
        self.state = kept["loop"]
        return True


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


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


def identity_of(options: Mapping[str, Any], *files: Path) -> str:
    """What a training is: its options, and the content of what it starts from."""
    contents = [sha256(file) for file in files]
    return hashlib.sha256(json.dumps([options, contents], sort_keys=True).encode()).hexdigest()

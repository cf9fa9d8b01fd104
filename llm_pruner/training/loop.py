"""The training loop: seeded, with early stopping, best weights kept, and resume points."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llm_pruner.system.errors import CheckpointError
from llm_pruner.system.files import read_json, staged_directory, write_json
from llm_pruner.system.progress import track
from llm_pruner.system.runtime import ON_CPU, Runtime

_FORMAT = 2
"""Format of a resume point. A resume point of another format is ignored."""


class TrainingTask:
    """One kind of training: its optimisers, gradients and measurements.

    Attributes:
        trained: the modules that learn.
        remedy: advice in the error of a diverging training.
    """

    trained: nn.Module
    remedy = "lower the learning rate"

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Optimisers of ``trained``; their learning rates are the peaks."""
        raise NotImplementedError

    def gradients(self, step: int) -> float:
        """Set the gradients of an update, counted from 0, and return its loss."""
        raise NotImplementedError

    def measure(self, step: int) -> dict[str, Any]:
        """A point of the curve after ``step`` updates."""
        raise NotImplementedError

    def score(self, point: Mapping[str, Any]) -> float | None:
        """Score of a point, higher is better. None keeps the last weights instead of the best."""
        return None

    def begin(self, step: int) -> None:
        """Hook before the gradients of an update."""

    def after_backward(self) -> None:
        """Hook after the gradients are set, before they are clipped."""

    def update(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Update the weights from their gradients."""
        for optimizer in optimizers:
            optimizer.step()

    def checked(self, point: Mapping[str, Any]) -> None:
        """Hook after a point of the curve."""

    def is_eligible(self, step: int) -> bool:
        """Whether the weights after ``step`` updates may count as the best."""
        return True

    def tensors(self) -> dict[str, torch.Tensor]:
        """Tensors of a resume point besides weights and moments."""
        return {}

    def state(self) -> dict[str, Any]:
        """Further state of a resume point, as JSON."""
        return {}

    def restore(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any], step: int) -> None:
        """Restore the state that ``tensors`` and ``state`` returned after ``step`` updates."""


@dataclass(frozen=True)
class Schedule:
    """Length, learning rate and checks of a training.

    Attributes:
        steps: updates.
        factor: share of the peak learning rate at an update, counted from 0.
        checks: numbers of updates after which a point is measured; 0 means before the first update.
        clip: largest norm of an update's gradient.
        patience: checks in a row without a better score that stop the training; None for no early stop.
    """

    steps: int
    factor: Callable[[int], float]
    checks: frozenset[int]
    clip: float
    patience: int | None = None


@dataclass
class History:
    """The course of a training.

    Attributes:
        step: updates made at the last check.
        losses: loss of every update.
        points: measured points, in order.
        best: the point whose weights were kept, if the task scores points.
        worse: checks since the best point.
        stopped_early: whether patience stopped the training.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    worse: int = 0
    stopped_early: bool = False


def fit(
    task: TrainingTask,
    schedule: Schedule,
    *,
    resume_point: Path | None = None,
    identity: str = "",
    name: str = "training",
    runtime: Runtime = ON_CPU,
) -> History:
    """Train in place. A scored task ends with the weights of its best point, every other task with the last weights.

    A killed training continues from ``resume_point`` and ends as without the interruption: on a CPU the same seed and
    number of threads give the same bytes. The caller sets the seed.

    Args:
        resume_point: folder written at every check, in safetensors and JSON.
        identity: digest of this training. A resume point with another digest is ignored.
        runtime: its device receives a resume point's tensors.

    Raises:
        CheckpointError: if the loss is not finite.
    """
    return _Loop(task, schedule, resume_point, identity, runtime).run(name)


class _Loop:
    def __init__(
        self, task: TrainingTask, schedule: Schedule, resume_point: Path | None, identity: str, runtime: Runtime
    ) -> None:
        self.task = task
        self.schedule = schedule
        self.resume_point = resume_point
        self.identity = identity
        self.runtime = runtime
        self.parameters = [parameter for parameter in task.trained.parameters() if parameter.requires_grad]
        self.optimizers = task.optimizers()
        self.groups = [(group, group["lr"]) for optimizer in self.optimizers for group in optimizer.param_groups]
        self.best_weights: dict[str, torch.Tensor] = {}
        self.history = History()

    def run(self, name: str) -> History:
        task, schedule = self.task, self.schedule
        if not self._resume() and 0 in schedule.checks:
            self._check(0)
        bar = track(range(self.history.step, schedule.steps), name, "step", show=self.runtime.progress)
        for step in bar:
            if self.history.stopped_early:
                break
            task.begin(step)
            task.trained.train()
            loss = task.gradients(step)
            if not math.isfinite(loss):
                raise CheckpointError(f"training diverged: loss {loss} at update {step}; {task.remedy}")
            self.history.losses.append(loss)
            task.after_backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, schedule.clip)
            for group, peak in self.groups:
                group["lr"] = peak * schedule.factor(step)
            task.update(self.optimizers)
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            shown = {"loss": loss}
            if step + 1 in schedule.checks:
                point = self._check(step + 1)
                shown |= {key: point[key] for key in ("accuracy", "perplexity") if key in point}
            bar.set_postfix({key: f"{value:.3f}" for key, value in shown.items()}, refresh=False)
        if self.best_weights:
            task.trained.load_state_dict(self.best_weights)
        return self.history

    def _check(self, step: int) -> dict[str, Any]:
        """Measure, remember the best weights, write a resume point."""
        task, history = self.task, self.history
        point = task.measure(step)
        history.points.append(point)
        history.step = step
        score = task.score(point)
        if score is not None and task.is_eligible(step):
            best = task.score(history.best) if history.best else None
            if best is None or score > best:
                history.best, history.worse = point, 0
                self.best_weights = {key: value.clone() for key, value in task.trained.state_dict().items()}
            else:
                history.worse += 1
            history.stopped_early = self.schedule.patience is not None and history.worse >= self.schedule.patience
        task.checked(point)
        if self.resume_point:
            self._save(self.resume_point)
        return point

    def _save(self, folder: Path) -> None:
        from safetensors.torch import save_file

        moments = {
            f"moments/{number}/{index}/{key}": value
            for number, optimizer in enumerate(self.optimizers)
            for index, own in optimizer.state_dict()["state"].items()
            for key, value in own.items()
        }
        tensors = {
            **{f"weights/{key}": value for key, value in self.task.trained.state_dict().items()},
            **{f"best/{key}": value for key, value in self.best_weights.items()},
            **moments,
            **{f"task/{key}": value for key, value in self.task.tensors().items()},
            "random": torch.get_rng_state(),
        }
        state = {
            "format": _FORMAT,
            "identity": self.identity,
            "history": vars(self.history),
            "task": self.task.state(),
        }
        with staged_directory(folder) as staged:
            # cloned, because save_file refuses tensors that share memory
            save_file({key: value.detach().clone() for key, value in tensors.items()}, staged / "tensors.safetensors")
            write_json(staged / "state.json", state)

    def _resume(self) -> bool:
        """Load the resume point if it belongs to this training; whether it did."""
        folder = self.resume_point
        if folder is None or not (folder / "state.json").exists():
            return False
        kept = read_json(folder / "state.json")
        if (kept.get("format"), kept["identity"]) != (_FORMAT, self.identity):
            return False
        from safetensors.torch import load_file

        tensors = load_file(folder / "tensors.safetensors", device=self.runtime.device)
        self.task.trained.load_state_dict(_under("weights/", tensors))
        self.best_weights = _under("best/", tensors)
        for number, optimizer in enumerate(self.optimizers):
            moments: dict[int, dict[str, torch.Tensor]] = {}
            for key, value in _under(f"moments/{number}/", tensors).items():
                index, _, what = key.partition("/")
                moments.setdefault(int(index), {})[what] = value
            optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        self.groups = [
            (group, peak)
            for (_, peak), group in zip(
                self.groups, (group for each in self.optimizers for group in each.param_groups), strict=True
            )
        ]
        self.history = History(**kept["history"])
        self.task.restore(_under("task/", tensors), kept["task"], self.history.step)
        torch.set_rng_state(tensors["random"].cpu())
        return True


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

"""The loop that everything trains in: updates by hand, resuming, stopping."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from llm_pruner.system.errors import CheckpointError
from llm_pruner.system.ownership import seal
from llm_pruner.training.loop import History, Schedule, TrainingTask, fit
from llm_pruner.training.schedule import rate


class Pull(TrainingTask):
    """A weight is pulled from 8 to 0 by its square; plain gradient descent with momentum, so the loop keeps moments."""

    def __init__(self, momentum: float = 0.0, scores: list[float] | None = None, die_at: int | None = None) -> None:
        self.trained = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(self.trained.weight, 8.0)
        self.momentum, self.scores, self.die_at = momentum, scores, die_at
        self.began: list[int] = []

    @property
    def weight(self) -> float:
        return self.trained.weight.item()

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(self.trained.parameters(), lr=0.25, momentum=self.momentum)]

    def begin(self, step: int) -> None:
        if step == self.die_at:
            raise KeyboardInterrupt
        self.began.append(step)

    def gradients(self, step: int) -> float:
        loss = (self.trained.weight**2).sum() + torch.rand(()) * self.trained.weight.sum() * 0.0
        loss.backward()
        return loss.item()

    def measure(self, step: int) -> dict[str, Any]:
        return {"step": step, "weight": self.weight}

    def score(self, point: Mapping[str, Any]) -> float | None:
        return None if self.scores is None else self.scores[point["step"]]


def schedule(steps: int = 3, checks: tuple[int, ...] = (0, 1, 2, 3), **options: Any) -> Schedule:
    return Schedule(steps, options.pop("factor", lambda _: 1.0), frozenset(checks), options.pop("clip", 1e9), **options)


def test_updates_by_hand() -> None:
    task = Pull()
    history = fit(task, schedule(factor=lambda step: (1.0, 0.5, 0.0)[step]))
    # w − 0.25 · factor · 2w: by a half, by a quarter, not at all
    assert [point["weight"] for point in history.points] == [8.0, 4.0, 3.0, 3.0]
    assert history.losses == [64.0, 16.0, 9.0]
    assert (history.best, history.stopped_early, task.weight) == (None, False, 3.0)


def test_gradients_are_clipped() -> None:
    task = Pull()
    fit(task, schedule(steps=1, clip=4.0))
    assert task.weight == pytest.approx(8 - 0.25 * 4)


def test_the_best_weights_are_kept_and_patience_ends() -> None:
    task = Pull(scores=[0.0, 2.0, 1.0, 1.5, 9.0])
    history = fit(task, schedule(steps=4, checks=(0, 1, 2, 3, 4), patience=2))
    assert history.best == {"step": 1, "weight": 4.0}
    assert (task.weight, history.stopped_early, task.began) == (4.0, True, [0, 1, 2])


@pytest.mark.parametrize("scores", [None, [0.0, 3.0, 1.0, 2.0, 2.5, 1.0]])
def test_a_killed_training_ends_as_if_nothing_had_been(scores: list[float] | None, tmp_path: Path) -> None:
    plan = schedule(steps=5, checks=(0, 2, 3, 5), factor=lambda step: rate(step, 5, 0.4))
    whole = Pull(momentum=0.9, scores=scores)
    expected = fit(whole, plan)
    with pytest.raises(KeyboardInterrupt):
        fit(Pull(momentum=0.9, scores=scores, die_at=4), plan, resume_point=tmp_path / "at", identity="me")
    again = Pull(momentum=0.9, scores=scores)
    history = fit(again, plan, resume_point=tmp_path / "at", identity="me")
    assert again.began == [3, 4]
    assert (history, again.weight) == (expected, whole.weight)


def test_a_resume_point_of_something_else_is_not_taken_up(tmp_path: Path) -> None:
    fit(Pull(), schedule(), resume_point=tmp_path / "at", identity="me")
    other = Pull()
    fit(other, schedule(), resume_point=tmp_path / "at", identity="you")
    assert other.began == [0, 1, 2]
    state = json.loads((tmp_path / "at" / "state.json").read_text())
    (tmp_path / "at" / "state.json").write_text(json.dumps({**state, "format": 1}))
    seal(tmp_path / "at")
    old = Pull()
    assert isinstance(fit(old, schedule(), resume_point=tmp_path / "at", identity="you"), History)
    assert old.began == [0, 1, 2]


def test_a_diverging_training_ends_with_advice() -> None:
    task = Pull()
    torch.nn.init.constant_(task.trained.weight, float("inf"))
    with pytest.raises(CheckpointError, match=r"diverged: loss .* at update 0; lower the learning rate"):
        fit(task, schedule())


def test_linear_rises_from_its_first_update_and_falls_to_zero() -> None:
    factors = [rate(step, 100, 0.05) for step in range(101)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert factors[100] == 0
    assert [rate(step, 4, 0) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]

"""The search for an attention : MLP split: finds the best of what it tries, tries little twice, survives a stop."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import llm_pruner
from llm_pruner.data.tokens import read_tokens
from llm_pruner.evaluation.perplexity import perplexity
from llm_pruner.evaluation.records.perplexity import WindowLosses
from llm_pruner.mechanisms.width.split import SplitSearch
from llm_pruner.search import split as module
from llm_pruner.search.split import search_split
from llm_pruner.system.errors import PlanError
from llm_pruner.system.runtime import ON_CPU
from llm_pruner.variants.grammar import resolve
from llm_pruner.variants.score import compute_scores
from tests.tiny.making import make

OPTIONS = {"split": "search", "allocation": "inverse"}


class Case:
    def __init__(self, base: Path, tokens: Path, folder: Path) -> None:
        self.base, self.tokens, self.folder = base, tokens, folder
        self.variant = resolve("GQA_3000", OPTIONS)
        self.files = {}
        for role, score in (("scores", self.variant.score), ("importance", self.variant.importance)):
            assert score
            self.files[role] = folder / f"{role}.json"
            compute_scores(score, base, tokens, self.files[role], device="cpu")

    def run(self, **options: Any) -> SplitSearch:
        output = self.folder / "search.json"
        return search_split(
            self.variant, self.base, output, held_out=self.tokens, runtime=ON_CPU, **self.files, **options
        )


@pytest.fixture
def case(make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> Case:
    return Case(make_model("qwen3", intermediate_size=60), token_file, tmp_path)


def test_every_trial_is_the_perplexity_of_the_model_cut_that_way(case: Case, tmp_path: Path) -> None:
    result = case.run(coarse=50, fine=50, patience=9)
    held_out = read_tokens(case.tokens)
    for trial in result.trials:
        options = {**OPTIONS, "split": trial.split}
        make("GQA_3000", options, case.base, case.tokens, tmp_path / "cut")
        model = llm_pruner.load(tmp_path / "cut" / "model")
        measured = perplexity(model, held_out, window=held_out.shape[1]).perplexity
        assert trial.perplexity == pytest.approx(measured, rel=1e-4)


def test_best_is_the_lowest_and_steps_close_in_on_it(case: Case) -> None:
    result = case.run(coarse=20, fine=5, patience=99)
    trials = result.trials
    assert result.best.perplexity == min(trial.perplexity for trial in trials)
    shares = [trial.attention_share for trial in trials]
    assert shares[:7] == [None, 0, 20, 40, 60, 80, 100] and not result.stopped_early
    coarse_best = min(trials[:7], key=lambda trial: trial.perplexity)
    center = coarse_best.attention_share
    center = round(coarse_best.reached_share) if center is None else center
    assert all(abs(share - center) < 20 for share in shares[7:])
    assert len(shares) == len(set(shares)) > 7
    assert json.loads((case.folder / "search.json").read_text())["best"] == result.best.to_dict()


def test_stops_early_and_measures_no_plan_twice(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter(range(100, 200))
    monkeypatch.setattr(module, "perplexity", lambda *_, **__: SimpleNamespace(perplexity=float(next(values))))
    result = case.run(coarse=10, fine=10, patience=2)
    assert result.stopped_early and result.best.attention_share is None
    assert result.plans_measured == next(values) - 100 == sum(trial.measured for trial in result.trials) == 3


def test_goes_on_where_it_was_stopped(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = case.run(coarse=25, fine=10)
    (case.folder / "search.json").unlink()
    measured = []

    def count(*arguments: Any, **options: Any) -> WindowLosses:
        if len(measured) == 3 and not (case.folder / "resumed").exists():
            raise KeyboardInterrupt
        measured.append(1)
        return perplexity(*arguments, **options)

    monkeypatch.setattr(module, "perplexity", count)
    with pytest.raises(KeyboardInterrupt):
        case.run(coarse=25, fine=10)
    assert not (case.folder / "search.json").exists()
    (case.folder / "resumed").touch()
    again = case.run(coarse=25, fine=10)
    assert again.trials == whole.trials and again.best == whole.best
    assert len(measured) == whole.plans_measured
    assert not list(case.folder.glob(".*trials*"))


def test_trials_of_another_search_are_not_taken_up(case: Case, token_file: Path, tokens: torch.Tensor) -> None:
    journal = case.folder / ".search.trials.json"
    trial = {"attention_share": None, "split": None, "reached_share": 0.0, "perplexity": 1.0, "measured": True}
    journal.write_text(json.dumps({"search": "another", "trials": [trial]}))
    assert case.run(coarse=50, fine=50).best.perplexity > 1.0


def test_a_ratio_out_of_reach_says_so(case: Case) -> None:
    case.variant = resolve("GQA_9900", OPTIONS)
    with pytest.raises(PlanError, match=r"GQA_9900: a ratio of 0\.9900 removes"):
        case.run()


def test_prune_takes_the_split_that_was_found(case: Case, tmp_path: Path) -> None:
    from llm_pruner.planning.plan import Plan
    from llm_pruner.variants.make import prune

    result = case.run(coarse=25, fine=10)
    prune(case.variant, case.base, tmp_path / "found", search=tmp_path / "search.json", device="cpu", **case.files)
    make("GQA_3000", {**OPTIONS, "split": result.best.split}, case.base, case.tokens, tmp_path / "given")
    assert Plan.read(tmp_path / "found" / "plan.json") == Plan.read(tmp_path / "given" / "plan.json")

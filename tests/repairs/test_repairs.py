"""What repairs make of kept weights: against direct solutions on small problems, and on whole models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import llm_pruner
from llm_pruner.data.tokens import write_tokens
from llm_pruner.repairs.choice import REPAIR
from llm_pruner.repairs.least_squares import LeastSquares
from llm_pruner.repairs.linear import LinearRepair
from llm_pruner.repairs.regression import Regression
from llm_pruner.repairs.rotation import Rotation
from llm_pruner.repairs.walk import _repair_linear
from llm_pruner.scoring.moments import Moments
from llm_pruner.system.errors import CheckpointError, ConfigError, PlanError
from llm_pruner.variants.grammar import resolve
from tests.tiny.families import VOCABULARY
from tests.tiny.making import make

TOKENS, INPUTS, OUTPUTS = 200, 6, 4


@pytest.fixture
def problem() -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs that depend on each other, [tokens, in], and a weight, [out, in]."""
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(INPUTS, INPUTS, generator=generator)
    return torch.randn(TOKENS, INPUTS, generator=generator) @ mixing, torch.randn(OUTPUTS, INPUTS, generator=generator)


def regression_of(inputs: torch.Tensor, targets: torch.Tensor) -> Regression:
    regression = Regression.empty(OUTPUTS, INPUTS)
    for part, wanted in zip(inputs.split(64), targets.split(64), strict=True):
        regression.add(part, wanted)
    return regression


def weight_of(
    repair: LinearRepair, weight: torch.Tensor, removed: torch.Tensor, regression: Regression
) -> torch.Tensor:
    (candidate,) = repair.candidates(weight, removed, regression)
    return candidate.weight


def test_the_error_of_a_weight_follows_from_the_sums(problem: tuple[torch.Tensor, torch.Tensor]) -> None:
    inputs, weight = problem
    targets = torch.randn(TOKENS, OUTPUTS, generator=torch.Generator().manual_seed(2))
    direct = (inputs @ weight.T - targets).square().sum() / targets.square().sum()
    assert regression_of(inputs, targets).loss(weight) == pytest.approx(direct.item(), rel=1e-4)
    moments = Moments.empty(INPUTS)
    moments.add(inputs)
    own = Regression.of_weight(weight, moments)
    assert own.loss(weight) == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(own.wanted, (inputs @ weight.T).sum(0), rtol=1e-4, atol=1e-3)
    assert own.energy == pytest.approx((inputs @ weight.T).square().sum().item(), rel=1e-5)


def test_the_best_bias_is_the_mean_error(problem: tuple[torch.Tensor, torch.Tensor]) -> None:
    inputs, weight = problem
    targets = torch.randn(TOKENS, OUTPUTS, generator=torch.Generator().manual_seed(2)) + 0.7
    weights = torch.rand(TOKENS, generator=torch.Generator().manual_seed(3)) + 0.1
    regression = Regression.empty(OUTPUTS, INPUTS)
    regression.add(inputs, targets, weights)
    errors = targets - inputs @ weight.T
    best = (weights[:, None] * errors).sum(0) / weights.sum()
    torch.testing.assert_close(regression.mean_error(weight), best, rtol=1e-4, atol=1e-4)
    energy = (weights[:, None] * targets.square()).sum()
    for bias in (best, best + 0.3):
        direct = (weights[:, None] * (errors - bias).square()).sum() / energy
        assert regression.loss(weight, bias) == pytest.approx(direct.item(), rel=1e-4)
    assert regression.loss(weight, best) < min(regression.loss(weight), regression.loss(weight, best + 0.3))


def test_whole_columns_are_solved_for_as_by_lstsq(problem: tuple[torch.Tensor, torch.Tensor]) -> None:
    inputs, weight = problem
    targets = inputs @ weight.T + 0.1
    removed = torch.tensor([False, True, False, False, True, False])
    repaired = weight_of(LeastSquares(ridge=1e-9), weight, removed, regression_of(inputs, targets))
    direct = torch.linalg.lstsq(inputs[:, ~removed], targets).solution.T
    torch.testing.assert_close(repaired[:, ~removed], direct, rtol=1e-3, atol=1e-3)
    assert not repaired[:, removed].any()


def test_tokens_that_weigh_more_are_met_better(problem: tuple[torch.Tensor, torch.Tensor]) -> None:
    """As if each token stood there as often as it weighs."""
    inputs, weight = problem
    targets = inputs @ weight.T + torch.randn(TOKENS, OUTPUTS, generator=torch.Generator().manual_seed(2))
    weights = torch.arange(TOKENS) % 3
    weighted, repeated = Regression.empty(OUTPUTS, INPUTS), Regression.empty(OUTPUTS, INPUTS)
    weighted.add(inputs.unflatten(0, (4, -1)), targets.unflatten(0, (4, -1)), weights.float().unflatten(0, (4, -1)))
    repeated.add(inputs.repeat_interleave(weights, 0), targets.repeat_interleave(weights, 0))
    removed = torch.tensor([False, True, False, False, True, False])
    for repair in (LeastSquares(ridge=0.01), Rotation()):
        fitted = [weight_of(repair, weight, removed, regression) for regression in (weighted, repeated)]
        torch.testing.assert_close(*fitted, rtol=1e-4, atol=1e-5)
    assert weighted.loss(weight) == pytest.approx(repeated.loss(weight), rel=1e-4)
    torch.testing.assert_close(weighted.moments.mean(), repeated.moments.mean())


def test_single_weights_are_solved_for_as_by_lstsq_row_by_row(problem: tuple[torch.Tensor, torch.Tensor]) -> None:
    inputs, weight = problem
    removed = torch.rand(OUTPUTS, INPUTS, generator=torch.Generator().manual_seed(3)) < 0.5
    removed[0] = False
    regression = regression_of(inputs, inputs @ weight.T)
    repaired = weight_of(LeastSquares(ridge=1e-6, iterations=50), weight, removed, regression)
    assert not repaired[removed].any()
    for row, gone, found in zip(weight, removed, repaired, strict=True):
        direct = torch.linalg.lstsq(inputs[:, ~gone], (inputs @ row)[:, None]).solution[:, 0]
        torch.testing.assert_close(found[~gone], direct, rtol=1e-2, atol=1e-2)


def test_a_strong_ridge_leaves_the_weights_as_they_were(problem: tuple[torch.Tensor, torch.Tensor]) -> None:
    inputs, weight = problem
    regression = regression_of(inputs, inputs @ weight.T)
    for removed in (torch.arange(INPUTS) < 2, torch.rand(weight.shape) < 0.3):
        repaired = weight_of(LeastSquares(ridge=1e9), weight, removed, regression)
        torch.testing.assert_close(repaired, weight.masked_fill(removed, 0), rtol=1e-4, atol=1e-4)


def test_rotation_is_the_best_of_all_rotations(problem: tuple[torch.Tensor, torch.Tensor]) -> None:
    inputs, weight = problem
    removed = torch.tensor([False, False, True, False, False, False])
    kept = weight.masked_fill(removed, 0)
    regression = regression_of(inputs, inputs @ weight.T)
    best = regression.loss(weight_of(Rotation(scale=False), weight, removed, regression))
    assert best < regression.loss(kept)
    generator = torch.Generator().manual_seed(4)
    for _ in range(200):
        turn = torch.linalg.qr(torch.randn(OUTPUTS, OUTPUTS, generator=generator)).Q
        assert best <= regression.loss(turn @ kept) + 1e-6
    scaled = weight_of(Rotation(), weight, removed, regression)
    assert regression.loss(scaled) <= best
    rotation = weight_of(Rotation(scale=False), weight, removed, regression)
    torch.testing.assert_close(rotation.norm(dim=0), kept.norm(dim=0))


def test_rows_that_repeat_are_told_with_the_way_out(problem: tuple[torch.Tensor, torch.Tensor]) -> None:
    _, weight = problem
    few = torch.full((4, INPUTS), 1e3)
    regression = regression_of(few, few @ weight.T)
    with pytest.raises(PlanError, match="linearly dependent over 4 tokens; use more calibration samples"):
        weight_of(LeastSquares(ridge=1e-18), weight, torch.arange(INPUTS) == 0, regression)


@pytest.mark.parametrize("damaged", [0, 1])
def test_inputs_that_overflow_are_told_on_either_side(damaged: int, problem: tuple[torch.Tensor, torch.Tensor]) -> None:
    inputs, weight = problem
    sides = regression_of(inputs, inputs @ weight.T), regression_of(inputs, inputs @ weight.T)
    sides[damaged].moments.gram[0, 0] = float("inf")
    layer: Any = SimpleNamespace(index=3)
    with pytest.raises(CheckpointError, match=r"layer 3, mlp\.down_proj: the inputs overflow in this dtype"):
        _repair_linear(LeastSquares(), layer, "mlp.down_proj", weight, torch.arange(INPUTS) == 0, sides)


REPAIRED = [
    ("Magnitude_2000", {}),
    ("Wanda_unstructured_5000", {}),
    ("Wanda_2of4", {}),
]


@pytest.mark.parametrize("inputs", ["dense", "sequential"])
@pytest.mark.parametrize(("name", "options"), REPAIRED)
def test_least_squares_brings_the_model_nearer_to_the_dense_one(
    name: str,
    options: dict[str, Any],
    inputs: str,
    make_model: Callable[..., Path],
    tokens: torch.Tensor,
    tmp_path: Path,
) -> None:
    base, token_file = make_model("llama"), tmp_path / "tokens.safetensors"
    # many for each unknown: a random model has no directions that few samples would show
    write_tokens(token_file, torch.randint(3, VOCABULARY, (48, 64), generator=torch.Generator().manual_seed(5)), {})
    dense = llm_pruner.load(base)(tokens).logits
    errors = {}
    for repair in ("none", "least_squares"):
        choice = repair if repair == "none" else {repair: {"inputs": inputs, "held_out": 0.25}}
        record = make(name, {**options, "repair": choice}, base, token_file, tmp_path / repair)
        pruned = llm_pruner.load(tmp_path / repair / "model")
        errors[repair] = (pruned(tokens).logits - dense).square().mean().item()
        assert (record.repair is None) is (repair == "none")
    assert errors["least_squares"] < errors["none"]
    assert record.repair
    assert record.repair.name == "least_squares"
    assert all(linear.kept is (linear.after < linear.before) for linear in record.repair.linears)
    assert any("held-out samples" in note for note in record.notes)


def test_held_out_samples_choose_the_ridge(make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> None:
    found = {}
    for ridge in (0.01, 1.0, (0.01, 1.0)):
        repair = {"least_squares": {"ridge": ridge, "inputs": "dense", "held_out": 0.5}}
        record = make("Magnitude_2000", {"repair": repair}, make_model("llama"), token_file, tmp_path / str(ridge))
        assert record.repair
        found[ridge] = record.repair.linears
    for weak, strong, chosen in zip(found[0.01], found[1.0], found[0.01, 1.0], strict=True):
        better = min(weak, strong, key=lambda linear: linear.after)
        assert (chosen.after, chosen.settings) == (better.after, better.settings)
        assert weak.settings == {"wanted": "own", "ridge": 0.01}


def test_the_zeros_are_those_of_the_criterion(
    make_model: Callable[..., Path], token_file: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    zeros = []
    for repair in ("none", "least_squares", "local"):
        make("Wanda_2of4", {"repair": repair}, make_model("qwen3"), token_file, tmp_path / repair)
        weights = load_file(tmp_path / repair / "model" / "model.safetensors")
        zeros.append({name: weight == 0 for name, weight in weights.items() if "_proj.weight" in name})
    assert all(torch.equal(zeros[0][name], repaired[name]) for repaired in zeros[1:] for name in zeros[0])


def test_one_sample_cannot_decide(make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="needs at least 2 calibration samples"):
        make("Random_2000", {"repair": {"least_squares": {"samples": 1}}}, make_model("llama"), token_file, tmp_path)
    assert not (tmp_path / "model").exists()
    assert not list(tmp_path.glob(".model*"))


@pytest.mark.parametrize(
    ("name", "repair", "told"),
    [
        ("Wanda_2000", "least_square", "unknown repair 'least_square'; did you mean 'least_squares'"),
        ("Wanda_2of4", "rotation", "'rotation' repairs models of width, not of sparse"),
        ("Wanda_unstructured_5000", {"bias": {}}, "'bias' repairs models of width, not of sparse"),
        ("Wanda_2000", {"least_squares": {"ridge": 0}}, "ridge"),
        ("Wanda_2000", {"least_squares": {"rigde": 1}}, "least_squares.rigde: unknown option"),
        ("ShortGPT_remove_1", "least_squares", "repair"),
    ],
)
def test_a_repair_without_meaning_is_refused_before_any_work(name: str, repair: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        resolve(name, {"repair": repair})


def test_every_repair_says_what_it_is() -> None:
    for name in REPAIR.entries:
        cls = REPAIR.class_of(name)
        assert cls.__doc__ and cls.title and cls.mechanisms

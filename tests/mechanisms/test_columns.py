"""Width by columns of output projections: agreement with the official implementations, and with brute force."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from llm_pruner.data.tokens import read_tokens
from llm_pruner.mechanisms.width.options import WidthOptions
from llm_pruner.mechanisms.width.plan import allocate
from llm_pruner.methods.base import ColumnMethod
from llm_pruner.methods.flap import FLAP
from llm_pruner.methods.magnitude_sp import MagnitudeSP
from llm_pruner.methods.obs import OBS
from llm_pruner.methods.wanda_sp import WandaSP
from llm_pruner.models.architecture import read_architecture
from llm_pruner.planning.budget import GroupScores
from llm_pruner.planning.plan import Plan
from llm_pruner.scoring.evidence import Evidence, LayerEvidence, gather
from llm_pruner.scoring.moments import Moments
from llm_pruner.system.files import read_json
from tests.tiny import REFERENCE
from tests.tiny.making import make

MODEL, CALIBRATION = REFERENCE / "model", REFERENCE / "calibration.safetensors"
OFFICIAL: dict[str, Any] = json.loads((REFERENCE / "width.json").read_text())
O_PROJ, DOWN_PROJ = "self_attn.o_proj", "mlp.down_proj"
SIZES = {O_PROJ: 32, DOWN_PROJ: 1}
"""Columns of a unit of the reference model."""


def layers_of(method: ColumnMethod) -> Iterator[LayerEvidence]:
    return gather(method.evidence, MODEL, read_tokens(CALIBRATION), linears=tuple(SIZES))


def scores_of(method: ColumnMethod, layer: LayerEvidence) -> dict[str, torch.Tensor]:
    """Of groups and of channels, by the name of the linear layer."""
    return {
        evidence.linear: method.unit_scores(weight, evidence, SIZES[evidence.linear])
        for weight, evidence in layer.linears()
    }


def lowest(scores: torch.Tensor, count: int) -> list[int]:
    return sorted(scores.argsort(stable=True)[:count].tolist())


@pytest.mark.parametrize(("method", "official"), [(WandaSP(), "wanda_sp_50"), (MagnitudeSP(), "mag_sp_50")])
def test_baselines_of_flap(method: ColumnMethod, official: str) -> None:
    """The official run scores a layer on what the pruned layers in front of it give."""
    expected = OFFICIAL[official]
    for layer in layers_of(method):
        scores = scores_of(method, layer)
        groups, channels = (expected[f"{kind}_scores"][layer.index] for kind in ("kv_group", "channel"))
        assert scores[O_PROJ].tolist() == pytest.approx(groups, rel=5e-6)
        assert scores[DOWN_PROJ].tolist() == pytest.approx(channels, rel=5e-6)
        (kept,), gone = expected["kv_groups_kept"][layer.index], expected["channels_removed"][layer.index]
        assert lowest(scores[O_PROJ], 1) == [1 - kept] and lowest(scores[DOWN_PROJ], 64) == gone
        layer.parameters[f"{O_PROJ}.weight"].unflatten(1, (2, 32))[:, 1 - kept] = 0
        layer.parameters[f"{DOWN_PROJ}.weight"][:, gone] = 0
        layer.changed()


def test_neurons_of_2ssp(tmp_path: Path) -> None:
    expected = OFFICIAL["2ssp_25"]
    architecture = read_architecture(MODEL)
    share = 6 * 37 * architecture.layers[0].channel_parameters / architecture.total_parameters
    make(f"TwoSSP_{round(share * 10_000):04d}", {"uniform": True}, MODEL, CALIBRATION, tmp_path)
    scores = read_json(tmp_path / "scores.json")["layers"]
    plan = Plan.read(tmp_path / "plan.json")
    for layer, own in zip(plan.layers, scores, strict=True):
        assert own["mlp"] == pytest.approx(expected["neuron_scores"][layer.index], rel=5e-6)
        assert layer.groups == (0, 1)
        assert sorted(set(range(128)) - set(layer.channels)) == expected["neurons_removed"][layer.index]


def official_variance(layer: LayerEvidence) -> LayerEvidence:
    """With the fluctuation of the published code, which takes the mean after an update for the one before it."""
    evidence = {
        name: replace(own, variance=torch.tensor(OFFICIAL["flap"]["fluctuation"][name.split(".")[1]][layer.index]))
        for name, own in layer.evidence.items()
    }
    return replace(layer, evidence=evidence)


@pytest.mark.parametrize("metric", ["WIFV", "WIFN"])
def test_metrics_of_flap(metric: Any) -> None:
    """Column by column, in units of their standard deviation."""
    method = FLAP(metric=metric)
    layer = official_variance(list(layers_of(method))[4])
    for weight, evidence in layer.linears():
        official = torch.tensor(OFFICIAL["flap"]["metrics_of_layer_4"][metric][evidence.linear.split(".")[1]])
        scores = FLAP(metric=metric, squared_attention=False).unit_scores(weight, evidence, 1)
        torch.testing.assert_close(scores, official / official.std(), rtol=5e-6, atol=0)
        if evidence.linear == O_PROJ:
            official = official.square()
        torch.testing.assert_close(
            method.unit_scores(weight, evidence, 1), official / official.std(), rtol=2e-5, atol=0
        )


def flap_plan(method: FLAP, of: Callable[[LayerEvidence], LayerEvidence], expected: Mapping[str, Any]) -> Plan:
    """By the allocation of the method, of as many parameters as the official run removed."""
    architecture = read_architecture(MODEL)
    scores = [
        GroupScores(*(own.tolist() for own in scores_of(method, of(layer)).values())) for layer in layers_of(method)
    ]
    shape = architecture.layers[0]
    gone = sum(
        shape.group_parameters * (2 - len(groups)) + shape.channel_parameters * len(channels)
        for groups, channels in zip(expected["groups_kept"], expected["channels_removed"], strict=True)
    )
    return allocate(architecture, scores, gone / architecture.total_parameters, WidthOptions(**FLAP.defaults))


@pytest.mark.parametrize("metric", ["WIFV", "IFV", "WIFN"])
def test_selection_of_flap(metric: Any) -> None:
    expected = OFFICIAL["flap"]["selection_20"][metric]
    plan = flap_plan(FLAP(metric=metric), official_variance, expected)
    assert [list(layer.groups) for layer in plan.layers] == expected["groups_kept"]
    removed = [sorted(set(range(128)) - set(layer.channels)) for layer in plan.layers]
    assert removed == expected["channels_removed"]


def test_the_true_variance_hardly_changes_the_selection_of_flap() -> None:
    expected = OFFICIAL["flap"]["selection_20"]["WIFV"]
    plan = flap_plan(FLAP(), lambda layer: layer, expected)
    assert [list(layer.groups) for layer in plan.layers] == expected["groups_kept"]
    other = [
        set(range(128)) - set(layer.channels) ^ set(gone)
        for layer, gone in zip(plan.layers, expected["channels_removed"], strict=True)
    ]
    assert 0 < sum(map(len, other)) <= 4


# optimal brain surgery


@pytest.mark.parametrize(("linear", "official", "count"), [(DOWN_PROJ, "mlp50", 64), (O_PROJ, "attn50", 1)])
def test_one_at_a_time_as_osscar(linear: str, official: str, count: int) -> None:
    expected = OFFICIAL["osscar"][official]
    for layer in layers_of(OBS()):
        weight, evidence = layer.parameters[f"{linear}.weight"], layer.evidence[linear]
        assert evidence.moments is not None
        scores = OBS(rounds=None, scale="none").unit_scores(weight, evidence, SIZES[linear])
        assert lowest(scores, count) == expected["removed"][layer.index]
        if linear == DOWN_PROJ:
            assert lowest(scores, 32) == OFFICIAL["osscar"]["mlp25"]["removed"][layer.index]
        # the official loss is half of the sum over tokens
        alone = torch.tensor(expected["scores_before_the_first_removal"][layer.index]) * 2 / evidence.moments.tokens
        assert scores.min().item() == pytest.approx(alone.min().item(), abs=5e-5 * alone.max().item())
        left = [unit for unit in range(len(scores)) if unit not in lowest(scores, count)]
        columns = torch.arange(weight.shape[1]).view(len(scores), -1)[left].flatten()
        hessian = evidence.moments.hessian(0.01)
        error = weight.double()
        error[:, columns] -= torch.linalg.solve(hessian[columns][:, columns], hessian[columns] @ weight.T.double()).T
        loss = evidence.moments.loss(error) / evidence.moments.loss(weight)
        assert loss == pytest.approx(expected["relative_error"][layer.index], rel=1e-5)


def refit_loss(weight: torch.Tensor, hessian: torch.Tensor, left: list[int]) -> float:
    """The least squared error with these columns alone, by least squares on inputs that have these second moments."""
    inputs = torch.linalg.cholesky(hessian).T
    targets = inputs @ weight.T.double()
    if not left:
        return targets.square().sum().item()
    refitted = torch.linalg.lstsq(inputs[:, left], targets).solution
    return (inputs[:, left] @ refitted - targets).square().sum().item()


def random_case(units: int, unit_size: int) -> tuple[torch.Tensor, Moments]:
    generator = torch.Generator().manual_seed(units)
    features = units * unit_size
    inputs = torch.randn(200, features, generator=generator) @ torch.randn(features, features, generator=generator)
    moments = Moments.empty(features)
    moments.add(inputs)
    return torch.randn(5, features, generator=generator), moments


@pytest.mark.parametrize(("units", "unit_size"), [(7, 1), (5, 3)])
def test_scores_are_what_each_removal_adds_to_the_loss(units: int, unit_size: int) -> None:
    """Every next removal is tried, with all that stays refitted by least squares."""
    weight, moments = random_case(units, unit_size)
    hessian = moments.hessian(0.01)
    scores = OBS(rounds=None, scale="none").unit_scores(weight, Evidence(0, DOWN_PROJ, moments=moments), unit_size)

    def loss(gone: list[int]) -> float:
        left = [unit * unit_size + column for unit in range(units) if unit not in gone for column in range(unit_size)]
        return refit_loss(weight, hessian, left)

    gone: list[int] = []
    added = [0.0]
    for _ in range(units):
        tried = {unit: loss([*gone, unit]) for unit in range(units) if unit not in gone}
        best = min(tried, key=tried.__getitem__)
        added.append(max(tried[best] - loss(gone), added[-1]))
        gone.append(best)
    assert scores.argsort().tolist() == gone
    assert scores[gone].tolist() == pytest.approx(added[1:], rel=1e-6)


def test_removal_in_rounds_adds_up_to_the_same_loss() -> None:
    weight, moments = random_case(24, 1)
    evidence = Evidence(0, DOWN_PROJ, moments=moments)
    scores = OBS(rounds=6, scale="none").unit_scores(weight, evidence, 1)
    everything = refit_loss(weight, moments.hessian(0.01), [])
    # a score that would be below the one before it is raised to it
    assert everything <= scores.sum().item() < 1.2 * everything
    gone = lowest(scores, 4)
    exact = refit_loss(weight, moments.hessian(0.01), [column for column in range(24) if column not in gone])
    assert exact <= scores[gone].sum().item() < 1.5 * exact
    alone = {
        column: refit_loss(weight, moments.hessian(0.01), [other for other in range(24) if other != column])
        for column in range(24)
    }
    assert gone == sorted(sorted(alone, key=alone.__getitem__)[:4])


def test_no_two_columns_score_the_same() -> None:
    weight, moments = random_case(24, 1)
    scores = OBS(scale="none").unit_scores(weight, Evidence(0, DOWN_PROJ, moments=moments), 1)
    assert len({f"{score:.9g}" for score in scores.tolist()}) == 24


def test_an_input_that_is_always_zero_goes_first_and_costs_nothing() -> None:
    weight, moments = random_case(6, 1)
    moments.gram[2] = moments.gram[:, 2] = 0
    weight[:, 2] = 1e3
    scores = OBS(scale="none").unit_scores(weight, Evidence(0, DOWN_PROJ, moments=moments), 1)
    assert scores[2] == 0 and (scores[[0, 1, 3, 4, 5]] > 0).all()


def test_scales_of_the_loss() -> None:
    weight, moments = random_case(6, 1)
    evidence = Evidence(0, DOWN_PROJ, moments=moments, stream_weight=0.25)
    plain, output, stream = (
        OBS(scale=scale).unit_scores(weight, evidence, 1) for scale in ("none", "output", "stream")
    )
    torch.testing.assert_close(stream, plain / 4)
    torch.testing.assert_close(
        output, plain / (weight.double() @ moments.gram.double() @ weight.T.double()).trace() * 200
    )
    # all columns gone is all of the output, and a little for the ridge and for what was raised
    assert 1 < output.sum().item() < 1.5

"""Methods that zero single weights against the official implementations, on the model those were run on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from llm_pruner.data.tokens import read_tokens
from llm_pruner.evaluation.perplexity import perplexity
from llm_pruner.methods.alps import ALPS
from llm_pruner.methods.base import LinearMethod
from llm_pruner.methods.sparsegpt import SparseGPT
from llm_pruner.models.architecture import read_architecture
from llm_pruner.models.checkpoint import load
from llm_pruner.planning.masks import Pattern
from llm_pruner.scoring.evidence import Evidence, gather
from llm_pruner.scoring.moments import Moments
from llm_pruner.system.errors import CheckpointError, PlanError
from llm_pruner.variants.grammar import resolve
from tests.tiny import REFERENCE
from tests.tiny.making import make
from tests.tiny.models import build_model

MODEL, CALIBRATION = REFERENCE / "model", REFERENCE / "calibration.safetensors"
OFFICIAL: dict[str, Any] = json.loads((REFERENCE / "sparse.json").read_text())["methods"]
LINEARS = {name: tensor.shape for name, tensor in sorted(read_architecture(MODEL).linears().items())}


def official_masks(name: str) -> dict[str, torch.Tensor]:
    """By name of the parameter: bool [out_features, in_features], True where a weight was zeroed."""
    packed = load_file(REFERENCE / "sparse_masks.safetensors")[name].numpy()
    masks, start = {}, 0
    for parameter, (rows, columns) in LINEARS.items():
        end = start + rows * columns // 8
        bits = np.unpackbits(packed[start:end].reshape(rows, -1), axis=-1)
        masks[parameter] = torch.from_numpy(bits.astype(bool))
        start = end
    assert start == len(packed)
    return masks


def masks_of(folder: Path) -> dict[str, torch.Tensor]:
    pruned = load_file(folder / "model.safetensors")
    return {parameter: pruned[parameter] == 0 for parameter in LINEARS}


def share_of_other_bits(folder: Path, official: dict[str, torch.Tensor]) -> float:
    ours = masks_of(folder)
    other = sum(int((ours[parameter] != official[parameter]).sum()) for parameter in LINEARS)
    return other / sum(mask.numel() for mask in official.values())


def heldout_perplexity(folder: Path) -> float:
    return perplexity(load(folder), read_tokens(REFERENCE / "heldout.safetensors"), window=128).perplexity


@pytest.mark.parametrize(
    ("name", "options", "official"),
    [
        ("RIA_unstructured_5000", {"comparison": "row"}, "ria_50_perout"),
        ("RIA_2of4", {}, "ria_2of4"),
        ("GBLM_unstructured_5000", {}, "gblm_50"),
        ("PrunerZero_unstructured_5000", {}, "prunerzero_50"),
    ],
)
def test_official_masks(name: str, options: dict[str, Any], official: str, tmp_path: Path) -> None:
    make(name, options, MODEL, CALIBRATION, tmp_path)
    expected = OFFICIAL[official]
    # of gradients the official code keeps 16 bits
    bits = expected["tolerance"].get("mask_bits_share_with_fp32_gradients", expected["tolerance"]["mask_bits_share"])
    assert share_of_other_bits(tmp_path / "model", official_masks(official)) <= bits
    tolerance = expected["tolerance"]["perplexity_relative"]
    assert heldout_perplexity(tmp_path / "model") == pytest.approx(expected["heldout_perplexity"], rel=tolerance)


def test_ria_over_whole_matrices_on_what_the_official_masks_make() -> None:
    """The official threshold takes one weight more in every matrix, which later layers notice."""
    variant = resolve("RIA_unstructured_5000")
    method, official = variant.build_method(), official_masks("ria_50")
    assert isinstance(method, LinearMethod)
    for layer in gather(method.evidence, MODEL, read_tokens(CALIBRATION)):
        for weight, evidence in layer.linears():
            theirs = official[f"model.layers.{layer.index}.{evidence.linear}.weight"]
            ours, kept = method.solve(weight, evidence, Pattern(0.5))
            assert kept is weight
            assert not (ours & ~theirs).any()
            assert (theirs & ~ours).sum() == 1
            weight.masked_fill_(theirs, 0)
        layer.changed()


def solved(
    name: str, options: dict[str, Any], pattern: Callable[[torch.Tensor], Pattern]
) -> tuple[dict[str, torch.Tensor], dict[str, float], float]:
    """A model that is pruned layer by layer: masks, errors of linear layers on what they read, and its perplexity."""
    method = resolve(name, options).build_method()
    assert isinstance(method, LinearMethod)
    model = load(MODEL)
    masks, errors = {}, {}
    for layer in gather("moments", MODEL, read_tokens(CALIBRATION)):
        for weight, evidence in layer.linears():
            parameter = f"model.layers.{layer.index}.{evidence.linear}.weight"
            before = weight.clone()
            masks[parameter], after = method.solve(weight, evidence, pattern(weight))
            assert torch.equal(weight, before)
            weight.copy_(after).masked_fill_(masks[parameter], 0)
            moments = evidence.moments
            assert moments is not None
            errors[parameter] = moments.loss(weight - before) / moments.loss(before)
            model.get_parameter(parameter).data.copy_(weight)
        layer.changed()
    tokens = read_tokens(REFERENCE / "heldout.safetensors")
    return masks, errors, perplexity(model, tokens, window=128).perplexity


def test_sparsegpt_takes_what_the_official_sweep_takes() -> None:
    """Given the one weight more that the official threshold takes in every block of columns."""
    expected = json.loads((REFERENCE / "reference.json").read_text())["masks"]["sparsegpt_50"]["heldout_perplexity"]
    packed = load_file(REFERENCE / "masks.safetensors")
    masks, _, found = solved(
        "SparseGPT_unstructured_5000", {}, lambda weight: Pattern((weight.numel() // 2 + 1) / weight.numel())
    )
    other = 0
    for parameter, mask in masks.items():
        theirs = np.unpackbits(packed[f"sparsegpt_50/{parameter}"].numpy(), axis=-1).astype(bool)
        other += int((mask.numpy() != theirs).sum())
    assert other / sum(mask.numel() for mask in masks.values()) <= 1e-3
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "official"),
    [
        ("ADMM_unstructured_5000", {"gradual": False}, "admm_50"),
        ("ADMM_unstructured_6000", {"gradual": False}, "admm_60"),
        ("ADMM_unstructured_6000", {"comparison": "row"}, "admm_60_perout"),
        ("ALPS_unstructured_6000", {}, "alps_60"),
    ],
)
def test_official_solvers(name: str, options: dict[str, Any], official: str) -> None:
    expected, theirs = OFFICIAL[official], official_masks(official)
    tolerance = expected["tolerance"]
    masks, errors, found = solved(name, options, lambda _: Pattern(int(name[-4:]) / 10_000))
    other = sum(int((masks[parameter] != theirs[parameter]).sum()) for parameter in LINEARS)
    assert other / sum(mask.numel() for mask in masks.values()) <= tolerance["mask_bits_share"]
    assert found == pytest.approx(expected["heldout_perplexity"], rel=tolerance["perplexity_relative"])
    assert errors == pytest.approx(expected["layer_error"], rel=tolerance["layer_error_relative"])
    if "sum_of_layer_errors_relative" in tolerance:
        total = sum(expected["layer_error"].values())
        assert sum(errors.values()) == pytest.approx(total, rel=tolerance["sum_of_layer_errors_relative"])


def test_solvers_reproduce_outputs_better_the_more_they_do() -> None:
    """By the loss of the first layer, summed over its linear layers, which all read what the dense model gives."""
    layer = next(gather("moments", MODEL, read_tokens(CALIBRATION)))
    losses = {}
    for pattern in (Pattern(0.6), Pattern(0.5, 2, 4)):
        for name in ("Wanda", "SparseGPT", "ADMM", "ALPS"):
            method = resolve(f"{name}_2of4").build_method()
            assert isinstance(method, LinearMethod)
            losses[name] = 0.0
            for weight, evidence in layer.linears():
                mask, solved = method.solve(weight, evidence, pattern)
                assert evidence.moments is not None
                losses[name] += evidence.moments.loss(solved.masked_fill(mask, 0) - weight)
        assert losses["ALPS"] < losses["ADMM"] < losses["SparseGPT"] < losses["Wanda"]


def random_evidence(tokens: int = 200, features: int = 12) -> Evidence:
    """Of inputs that are correlated."""
    generator = torch.Generator().manual_seed(3)
    mixed = torch.randn(features, features, generator=generator)
    moments = Moments.empty(features)
    moments.add(torch.randn(tokens, features, generator=generator) @ mixed)
    return Evidence(2, "mlp.up_proj", 4, (moments.gram.diagonal() / 4).sqrt(), moments)


def random_weight(rows: int = 5, features: int = 12) -> torch.Tensor:
    return torch.randn(rows, features, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("pattern", [Pattern(0.5), Pattern(0.5, 2, 4)])
def test_alps_ends_with_the_best_weights_for_its_mask(pattern: Pattern) -> None:
    evidence, weight = random_evidence(), random_weight()
    assert evidence.moments is not None
    mask, solved = ALPS(refit=50, ridge=0.0).solve(weight, evidence, pattern)
    gram = evidence.moments.gram.double()
    for row, gone, found in zip(weight.double(), mask, solved, strict=True):
        kept = ~gone
        best = torch.linalg.solve(gram[kept][:, kept], gram[kept] @ row)
        torch.testing.assert_close(found[kept].double(), best, rtol=1e-3, atol=1e-4)


def test_sparsegpt_makes_up_for_a_column_with_those_behind_it() -> None:
    """The first weight goes, being the smallest by far; the others become what reproduces the output best."""
    evidence, weight = random_evidence(), random_weight(rows=1)
    weight[0, 0] = 1e-3
    assert evidence.moments is not None
    mask, solved = SparseGPT().solve(weight, evidence, Pattern(1 / 12))
    assert mask.nonzero().tolist() == [[0, 0]]
    hessian = evidence.moments.hessian()
    best = torch.linalg.solve(hessian[1:, 1:], hessian[1:] @ weight[0].double())
    torch.testing.assert_close(solved[0, 1:].double(), best, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block", [1, 5, 12, 128])
def test_sparsegpt_ranks_blocks_of_columns(block: int) -> None:
    mask, _ = SparseGPT(block=block).solve(random_weight(), random_evidence(), Pattern(0.4))
    for columns in mask.split(block, dim=1):
        assert columns.sum() == int(columns.numel() * 0.4)


@pytest.mark.parametrize("name", ["SparseGPT", "ADMM", "ALPS"])
@pytest.mark.parametrize("pattern", [Pattern(0.25), Pattern(0.5, 3, 6)])
def test_weights_of_inputs_that_are_always_zero_go_first(name: str, pattern: Pattern) -> None:
    evidence = random_evidence()
    assert evidence.moments is not None
    silent = [1, 5, 8]
    evidence.moments.gram[silent] = 0
    evidence.moments.gram[:, silent] = 0
    method = resolve(f"{name}_2of4").build_method()
    assert isinstance(method, LinearMethod)
    mask, solved = method.solve(random_weight(), evidence, pattern)
    assert mask[:, silent].all()
    assert mask.sum() == int(mask.numel() * pattern.share)
    assert solved.isfinite().all()


@pytest.mark.parametrize("name", ["SparseGPT", "ADMM", "ALPS"])
def test_inputs_that_are_not_finite(name: str, token_file: Path, tmp_path: Path) -> None:
    model = build_model("llama")
    model.model.layers[1].post_attention_layernorm.weight.data.fill_(1e25)
    model.save_pretrained(tmp_path / "base")
    with pytest.raises(CheckpointError, match=r"layer 1, mlp\.gate_proj: second moments of its inputs are not finite"):
        make(f"{name}_unstructured_5000", {}, tmp_path / "base", token_file, tmp_path / "out")
    assert not (tmp_path / "out" / "model").exists()


def test_too_few_tokens_for_no_ridge() -> None:
    with pytest.raises(
        PlanError, match=r"layer 2, mlp\.up_proj: .* cannot be inverted with ridge 0; write a larger one"
    ):
        SparseGPT(ridge=0.0).solve(random_weight(), random_evidence(tokens=5), Pattern(0.5))


def test_a_solver_gives_layers_what_an_allocation_asks_of_them(
    make_model: Callable[..., Path], token_file: Path, tmp_path: Path
) -> None:
    options = {"allocation": {"owl": {"threshold": 2}}}
    record = make("SparseGPT_unstructured_6000", options, make_model("llama"), token_file, tmp_path)
    asked = [layer.asked for layer in record.layers]
    assert len(set(asked)) > 1 and sum(asked) / 4 == pytest.approx(0.6)
    for layer in record.layers:
        assert layer.asked - 0.01 < layer.reached <= layer.asked

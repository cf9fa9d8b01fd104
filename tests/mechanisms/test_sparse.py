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
from llm_pruner.methods.wanda import Wanda
from llm_pruner.models.architecture import read_architecture
from llm_pruner.models.checkpoint import load
from llm_pruner.planning.masks import Pattern
from llm_pruner.refinements.choice import REFINEMENT
from llm_pruner.refinements.dsnot import Dsnot
from llm_pruner.refinements.sparse_swaps import SparseSwapping
from llm_pruner.scoring.evidence import Evidence, gather, input_moments, input_norms
from llm_pruner.scoring.moments import Moments
from llm_pruner.scoring.stream import LayerStream, StreamedLayer
from llm_pruner.system.errors import CheckpointError, ConfigError, PlanError
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
    return Evidence(2, "mlp.up_proj", 4, input_norm=(moments.gram.diagonal() / 4).sqrt(), moments=moments)


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
        PlanError, match=r"layer 2, mlp\.up_proj: .* cannot be inverted with ridge 0; choose a larger ridge"
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


class VarianceWithinSamples(Moments):
    """With the mean over samples of the variance within each, which is what the official code divides by."""

    within: torch.Tensor

    def variance(self) -> torch.Tensor:
        return self.within


def variances_within_samples(layer: StreamedLayer) -> dict[str, torch.Tensor]:
    found: dict[str, list[torch.Tensor]] = {}
    handles = [
        module.register_forward_pre_hook(
            lambda _, inputs, name=name: found.setdefault(name, []).append(inputs[0].var(dim=1, unbiased=False))
        )
        for name, module in layer.module.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    list(layer.run())
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts).mean(dim=0) for name, parts in found.items()}


@pytest.mark.parametrize(
    ("options", "official"),
    [({}, "dsnot_60"), ({"keep_sign": True}, "dsnot_60_samesign")],
)
def test_dsnot_exchanges_what_the_official_code_does(options: dict[str, Any], official: str) -> None:
    theirs, refinement = official_masks(official), Dsnot(cycles=10, **options)
    tokens, rows = read_tokens(CALIBRATION), 0
    for layer in LayerStream(MODEL, tokens):
        variances, norms = variances_within_samples(layer), input_norms(layer)
        for name, moments in input_moments(layer).items():
            own = VarianceWithinSamples(moments.tokens, moments.mass, moments.total, moments.gram)
            own.within = variances[name]
            evidence = Evidence(layer.index, name, len(tokens), input_norm=norms[name], moments=own)
            weight = layer.module.get_submodule(name).weight.data
            mask, _ = Wanda().solve(weight, evidence, Pattern(0.6))
            refined = refinement.refine(mask, weight, evidence, Pattern(0.6))
            expected = theirs[f"model.layers.{layer.index}.{name}.weight"]
            # where a row runs out of weights of one sign, the official code goes on with the dearest of the other
            signed = weight * moments.total
            fewest = torch.stack(
                [(part & (sign * signed > 0)).sum(dim=1) for part in (mask, ~mask) for sign in (1, -1)]
            ).amin(dim=0)
            plain = fewest >= 10
            rows += int(plain.sum())
            assert torch.equal(refined[plain], expected[plain]), name
            weight.masked_fill_(expected, 0)
        layer.changed()
    assert rows > 0.7 * sum(shape[0] for shape in LINEARS.values())


@pytest.mark.parametrize("pattern", [Pattern(0.5), Pattern(0.5, 2, 4)])
def test_sparse_swaps_against_all_swaps(pattern: Pattern) -> None:
    """Each swap is the best of all there are, none raises the loss of a row, and in the end none lowers it."""
    evidence, weight = random_evidence(), random_weight()
    assert evidence.moments is not None
    gram = evidence.moments.gram.double()

    def loss(row: int, gone: torch.Tensor) -> float:
        error = weight[row].double() * gone
        return float(error @ gram @ error)

    start, _ = Wanda().solve(weight, evidence, pattern)
    for row in range(len(weight)):
        expected, swaps = start[row].clone(), 0
        while True:
            trials = {}
            for leaving in (~expected).nonzero().flatten().tolist():
                for returning in expected.nonzero().flatten().tolist():
                    if not pattern.m or leaving // pattern.m == returning // pattern.m:
                        trial = expected.clone()
                        trial[leaving], trial[returning] = True, False
                        trials[leaving, returning] = loss(row, trial)
            (leaving, returning), least = min(trials.items(), key=lambda item: item[1])
            if least > loss(row, expected) * (1 - 1e-6):
                break
            expected[leaving], expected[returning] = True, False
            swaps += 1
            refinement = SparseSwapping(candidates=12, swaps=swaps)
            assert torch.equal(refinement.refine(start, weight, evidence, pattern)[row], expected)
        assert torch.equal(SparseSwapping(candidates=12).refine(start, weight, evidence, pattern)[row], expected)


@pytest.mark.parametrize("name", ["Wanda", "RIA"])
@pytest.mark.parametrize("pattern", [Pattern(0.6), Pattern(0.5, 2, 4)])
def test_sparse_swaps_lower_the_loss_of_every_linear_layer(name: str, pattern: Pattern) -> None:
    method = resolve(f"{name}_2of4").build_method()
    assert isinstance(method, LinearMethod)
    for weight, evidence in next(gather("moments", MODEL, read_tokens(CALIBRATION))).linears():
        moments = evidence.moments
        assert moments is not None
        mask, _ = method.solve(weight, evidence, pattern)
        losses = [moments.loss(weight * mask)]
        for swaps in (1, 2, 4, 50):
            refined = SparseSwapping(swaps=swaps).refine(mask, weight, evidence, pattern)
            assert torch.equal(refined.sum(dim=1), mask.sum(dim=1))
            losses.append(moments.loss(weight * refined))
        assert losses == sorted(losses, reverse=True)
        assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("refine", ["dsnot", "sparse_swaps"])
def test_refined_masks_keep_the_pattern(refine: str) -> None:
    for weight, evidence in next(gather("moments", MODEL, read_tokens(CALIBRATION))).linears():
        pattern = Pattern(0.5, 2, 4)
        mask, _ = Wanda().solve(weight, evidence, pattern)
        refined = REFINEMENT.make(refine).refine(mask, weight, evidence, pattern)
        assert (refined.unflatten(1, (-1, 4)).sum(dim=2) == 2).all()
        assert not torch.equal(refined, mask)


@pytest.mark.parametrize("name", ["DSnoT", "SparseSwaps"])
def test_names_of_refined_wanda(name: str, make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> None:
    for folder, variant, options in (
        ("named", f"{name}_unstructured_5000", {}),
        ("written", "Wanda_unstructured_5000", {"refine": {"DSnoT": "dsnot", "SparseSwaps": "sparse_swaps"}[name]}),
        ("plain", "Wanda_unstructured_5000", {}),
        ("gradients", "GBLM_unstructured_5000", {"refine": "sparse_swaps"}),
    ):
        make(variant, options, make_model("qwen3"), token_file, tmp_path / folder)
    contents = {path.parents[1].name: path.read_bytes() for path in tmp_path.glob("*/model/model.safetensors")}
    assert len(contents) == 4
    assert contents["named"] == contents["written"]
    assert len(set(contents.values())) == 3


@pytest.mark.parametrize(
    ("name", "refine", "reason"),
    [
        ("ALPS_2of4", "dsnot", "ALPS changes the kept weights"),
        ("SparseGPT_unstructured_5000", {"sparse_swaps": {"swaps": 3}}, "SparseGPT changes the kept weights"),
        ("Magnitude_2of4", "sparse_swaps", "Magnitude uses none"),
        ("Wanda_2of4", "swaps", "unknown refine 'swaps'"),
        ("Wanda_2of4", {"dsnot": {"cycle": 3}}, "dsnot.cycle: unknown option; did you mean 'cycles'"),
    ],
)
def test_refinements_that_are_refused(name: str, refine: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        resolve(name, {"refine": refine})

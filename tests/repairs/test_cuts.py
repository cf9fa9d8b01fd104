"""Repairs of depth pruning: against the official codes, against direct solutions, and on whole models."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import llm_pruner
from llm_pruner.data.tokens import read_tokens
from llm_pruner.evaluation.perplexity import perplexity
from llm_pruner.mechanisms.depth.prune import layers_gone
from llm_pruner.models.architecture import read_architecture
from llm_pruner.planning.plan import Plan
from llm_pruner.repairs.choice import REPAIR
from llm_pruner.surgery.cut import cut
from llm_pruner.system.errors import ConfigError, PlanError
from llm_pruner.system.runtime import ON_CPU
from llm_pruner.variants.grammar import resolve
from tests.tiny import REFERENCE
from tests.tiny.making import make

MODEL = REFERENCE / "model"
OFFICIAL: dict[str, Any] = json.loads((REFERENCE / "depth_repairs.json").read_text())
ALL_FITTED = {"held_out": 0, "weigh": "equal"}


def mended(base: Path, layers: list[int], repair: Any, ids: torch.Tensor, folder: Path) -> tuple[Path, list[Any]]:
    """The model without these layers, repaired, and the records."""
    architecture = read_architecture(base)
    plan = Plan.keep_layers(architecture, set(range(architecture.num_layers)) - set(layers))
    records = REPAIR.make(repair).apply(base, folder / "repaired", layers_gone(architecture, plan), ids, ON_CPU)
    cut(folder / "repaired", plan, folder / "model")
    return folder / "model", records


def heldout_perplexity(folder: Path) -> float:
    return perplexity(llm_pruner.load(folder), read_tokens(REFERENCE / "heldout.safetensors"), window=128).perplexity


@pytest.mark.parametrize("window", ["window1", "window2"])
def test_rescaling_is_the_official_one(window: str, tmp_path: Path) -> None:
    official = OFFICIAL["prune_and_comp"][window]
    ids = read_tokens(REFERENCE / "calibration.safetensors")
    folder, (record,) = mended(MODEL, official["removed"], {"rescale": ALL_FITTED}, ids, tmp_path)
    assert record.settings["factor"] == pytest.approx(official["factor"], rel=1e-6)
    assert record.kept and record.after < record.before
    assert heldout_perplexity(folder) == pytest.approx(official["heldout_perplexity"], rel=1e-5)


def test_rescaling_goes_on_from_the_rescaled_stream(tmp_path: Path) -> None:
    """The official code removes layer 1 and then, of what is left, 2 and 4; here 1 and 4 go in one pass."""
    first = OFFICIAL["prune_and_comp_bi"][0]
    ids = read_tokens(REFERENCE / "calibration.safetensors")
    _, (one, four) = mended(MODEL, [1, 4], {"rescale": ALL_FITTED}, ids, tmp_path / "both")
    assert one.settings["factor"] == pytest.approx(first["factor"], rel=1e-6)
    half, _ = mended(MODEL, [1], {"rescale": ALL_FITTED}, ids, tmp_path / "first")
    _, (again,) = mended(half, [3], {"rescale": ALL_FITTED}, ids, tmp_path / "then")
    # in the second run of the two the norms' epsilon weighs less
    assert four.settings["factor"] == pytest.approx(again.settings["factor"], rel=1e-4)
    _, (_, apart) = mended(MODEL, [1, 4], {"rescale": {**ALL_FITTED, "inputs": "dense"}}, ids, tmp_path / "dense")
    assert apart.settings["factor"] != pytest.approx(four.settings["factor"], rel=3e-4)


@pytest.mark.parametrize("name", list(OFFICIAL["replaceme"]))
def test_replace_me_is_the_official_one(name: str, tmp_path: Path) -> None:
    official = OFFICIAL["replaceme"][name]
    ids = read_tokens(REFERENCE / "calibration.safetensors")
    layers = official["removed_layers_0based"]
    folder, (record,) = mended(MODEL, layers, {"replace_me": {**ALL_FITTED, "ridge": 0.0}}, ids, tmp_path)
    assert (record.first, record.last, record.kept) == (layers[0], layers[-1], True)
    weights = dict(llm_pruner.load(folder).named_parameters())
    folded = weights[f"model.layers.{layers[0] - 1}.mlp.down_proj.weight"][0]
    if "down_proj_after_fold_first_row" in official:
        expected = torch.tensor(official["down_proj_after_fold_first_row"])
        torch.testing.assert_close(folded, expected, rtol=1e-4, atol=1e-5)
    assert heldout_perplexity(folder) == pytest.approx(official["heldout_perplexity"], rel=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_rescaled_models_differ_by_nothing_but_the_cut(
    make_model: Callable[..., Path], tokens: torch.Tensor, family: str, tied: bool, tmp_path: Path
) -> None:
    """With the removed layer in place of a multiplication by the factor, the model gives the same logits."""
    base = make_model(family, tie_word_embeddings=tied)
    folder, (record,) = mended(base, [2], {"rescale": ALL_FITTED}, tokens, tmp_path)
    dense = llm_pruner.load(base)
    factor = record.settings["factor"] if record.kept else 1.0
    dense.model.layers[2].register_forward_hook(lambda _module, inputs, _output: factor * inputs[0])
    with torch.no_grad():
        torch.testing.assert_close(llm_pruner.load(folder)(tokens).logits, dense(tokens).logits, rtol=1e-3, atol=1e-4)


def test_the_map_is_the_least_squares_solution(
    make_model: Callable[..., Path], tokens: torch.Tensor, tmp_path: Path
) -> None:
    base = make_model("llama", intermediate_size=96)
    folder, _ = mended(base, [1, 2], {"replace_me": {**ALL_FITTED, "ridge": 0.0}}, tokens, tmp_path)
    dense = llm_pruner.load(base)
    seen: dict[str, torch.Tensor] = {}
    dense.model.layers[0].mlp.register_forward_hook(lambda *held: seen.__setitem__("written", held[2]))
    dense.model.layers[0].register_forward_hook(lambda *held: seen.__setitem__("entered", held[2]))
    dense.model.layers[2].register_forward_hook(lambda *held: seen.__setitem__("wanted", held[2]))
    with torch.no_grad():
        dense(tokens)
    written, entered, wanted = (seen[key].flatten(0, 1).double() for key in ("written", "entered", "wanted"))
    mapping = torch.linalg.lstsq(written, wanted - (entered - written)).solution
    down = dense.model.layers[0].mlp.down_proj.weight.double()
    found = llm_pruner.load(folder).model.layers[0].mlp.down_proj.weight
    torch.testing.assert_close(found, (mapping.T @ down).float(), rtol=1e-3, atol=1e-4)


def test_a_variant_is_repaired_and_says_so(make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> None:
    base = make_model("llama")
    for repair in ("rescale", "replace_me"):
        record = make(
            "ShortGPT_protected_remove_2", {"protect_first": 1, "repair": repair}, base, token_file, tmp_path / repair
        )
        assert record.repair and record.repair.name == repair and record.repair.cuts
        assert sum(part.last - part.first + 1 for part in record.repair.cuts) == 2
        assert any(note.startswith(f"{repair}: kept in ") for note in record.notes)
        assert math.isfinite(record.repair.cuts[0].after)


def test_what_cannot_be_mended_is_refused(
    make_model: Callable[..., Path], tokens: torch.Tensor, tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match=r"replace_me needs a layer in front of layer 0 .*protect_first: 1"):
        mended(make_model("llama"), [0], "replace_me", tokens, tmp_path)
    with pytest.raises(ConfigError, match=r"repair: mends whole layers that go, not MLP blocks"):
        resolve("ShortGPT_mlp_remove_1", {"drop": "mlp", "repair": "rescale"})
    with pytest.raises(ConfigError, match=r"'rescale' repairs models of depth, not of width"):
        resolve("GQA_2000", {"repair": "rescale"})
    with pytest.raises(ConfigError, match=r"'bias' repairs models of width, not of depth"):
        resolve("ShortGPT_remove_1", {"repair": "bias"})

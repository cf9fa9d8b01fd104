"""What every method owes its user, on every family: the same tests for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import infer_auto_device_map

import llm_pruner
from llm_pruner.mechanisms import MECHANISMS
from llm_pruner.methods import METHODS
from llm_pruner.models.architecture import read_architecture
from llm_pruner.system.errors import CheckpointError, PlanError
from llm_pruner.system.files import read_json
from llm_pruner.variants.variant import load_class
from tests.mechanisms.cases import CASES_OF
from tests.tiny.families import FAMILIES
from tests.tiny.foreign import foreign_logits
from tests.tiny.making import make
from tests.tiny.models import build_model, logits

AMOUNTS = [
    [(mechanism, *case) for case in CASES_OF[mechanism].of(name, load_class(implementation))]
    for name, implementation in METHODS.items()
    for mechanism in load_class(implementation).mechanisms
    if mechanism in CASES_OF
]
"""Of each method by each mechanism."""
FURTHER = [(mechanism, *case) for mechanism, cases in CASES_OF.items() for case in cases.further]
CASES = [case for cases in AMOUNTS for case in cases] + FURTHER
ONCE = [cases[0] for cases in AMOUNTS] + FURTHER
"""Each method by each mechanism with one amount, and every other way to use one."""


def _on_families() -> Iterator[tuple[str, str, dict[str, Any], str]]:
    """Every method, and every repair, by every mechanism on every family; with further amounts on one in turn."""
    families, first = list(FAMILIES), [cases[0] for cases in AMOUNTS]
    repaired: dict[tuple[str, ...], tuple[str, str, dict[str, Any]]] = {}
    for case in CASES:
        if repair := case[2].get("repair"):
            repaired.setdefault((case[0], *repair), case)
    first += repaired.values()
    for number, case in enumerate(CASES):
        everywhere = case in first
        for family in families if everywhere else [families[number % len(families)]]:
            yield *case, family


def test_every_mechanism_brings_its_cases() -> None:
    assert CASES_OF.keys() == MECHANISMS.keys()


@pytest.mark.parametrize(
    ("mechanism", "name", "options", "family"),
    [pytest.param(*case, id=f"{case[1]}-{case[3]}") for case in _on_families()],
)
def test_contract(
    mechanism: str,
    name: str,
    options: dict[str, Any],
    family: str,
    make_model: Callable[..., Path],
    token_file: Path,
    tokens: torch.Tensor,
    tmp_path: Path,
) -> None:
    base = make_model(family)
    record = make(name, options, base, token_file, tmp_path)
    folder = tmp_path / "model"

    pruned = llm_pruner.load(folder)
    expected = logits(CASES_OF[mechanism].take_out(build_model(family), tmp_path, tokens), tokens)
    torch.testing.assert_close(logits(pruned, tokens), expected, rtol=1e-4, atol=1e-5)

    before, after = read_architecture(base), read_architecture(folder)
    assert sum(parameter.numel() for parameter in pruned.parameters()) == after.total_parameters
    assert record.mechanism == mechanism
    CASES_OF[mechanism].check_size(record, options, before, after)

    prompt = tokens[:2]
    cached, plain = (
        pruned.generate(prompt, max_new_tokens=12, do_sample=False, use_cache=use_cache) for use_cache in (True, False)
    )
    assert torch.equal(cached, plain)


@pytest.mark.parametrize(("name", "options"), [case for _, *case in ONCE], ids=[name for _, name, _ in ONCE])
def test_deterministic(
    name: str,
    options: dict[str, Any],
    make_model: Callable[..., Path],
    make_parent: Callable[..., Path],
    token_file: Path,
    tmp_path: Path,
) -> None:
    """The model is made once more, beside the one that other tests share."""
    base, model = make_model("qwen3"), Path("model", "model.safetensors")
    make(name, options, base, token_file, tmp_path)
    assert (tmp_path / model).read_bytes() == (make_parent(name, options, base) / model).read_bytes()


def test_random_follows_its_seed(make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> None:
    plans = []
    for seed in (0, 0, 1):
        make("Random_2000", {"seed": seed}, make_model("llama"), token_file, tmp_path)
        plans.append((tmp_path / "plan.json").read_text())
    assert plans[0] == plans[1] != plans[2]


def test_loads_with_nothing_of_ours(
    make_model: Callable[..., Path],
    make_parent: Callable[..., Path],
    token_file: Path,
    tokens: torch.Tensor,
    tmp_path: Path,
) -> None:
    folders = {
        make_parent(name, options, make_model(family)) / "model": trust
        for cases in CASES_OF.values()
        for (name, options), trust in cases.elsewhere
        for family in FAMILIES
    }
    for folder, theirs in foreign_logits(folders, token_file, tmp_path / "room").items():
        assert torch.equal(theirs, logits(llm_pruner.load(folder), tokens)), folder


def test_attention_implementation_can_be_changed(
    make_model: Callable[..., Path], make_parent: Callable[..., Path], tokens: torch.Tensor
) -> None:
    folder = make_parent("GQA_2000", {}, make_model("qwen2")) / "model"
    model = llm_pruner.load(folder)
    assert read_json(folder / "config.json")["per_layer_config"]
    before = logits(model, tokens)
    model.set_attn_implementation("eager")
    torch.testing.assert_close(logits(model, tokens), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "message"), [refusal for cases in CASES_OF.values() for refusal in cases.refused])
def test_impossible_amounts(
    name: str, message: str, make_model: Callable[..., Path], token_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match=message):
        make(name, {}, make_model("llama"), token_file, tmp_path)
    assert not (tmp_path / "model").exists()
    assert not list(tmp_path.glob(".model*"))


@pytest.mark.parametrize("name", [name for cases in CASES_OF.values() for name in cases.reads_weights])
def test_damaged_weights(name: str, token_file: Path, tmp_path: Path) -> None:
    model = build_model("llama")
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    model.save_pretrained(tmp_path / "base")
    with pytest.raises(CheckpointError, match="holds NaN or infinite values"):
        make(name, {}, tmp_path / "base", token_file, tmp_path / "out")
    assert not (tmp_path / "out" / "model").exists()


def test_missing_base(token_file: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        make("Magnitude_2of4", {}, tmp_path / "nowhere", token_file, tmp_path / "out")


@pytest.mark.parametrize(("name", "options"), [case for cases in CASES_OF.values() for case in cases.spread])
def test_can_be_spread_over_devices(
    name: str,
    options: dict[str, Any],
    make_model: Callable[..., Path],
    make_parent: Callable[..., Path],
    tokens: torch.Tensor,
    tmp_path: Path,
) -> None:
    """Two devices, the second of which is the disk; layers stay whole."""
    folder = make_parent(name, options, make_model("qwen3")) / "model"
    whole = llm_pruner.load(folder)
    layer = sum(parameter.nbytes for parameter in whole.model.layers[0].parameters())
    # room for one layer and a half on each, so that a layer would be split if it could
    room = {0: int(1.5 * layer), 1: int(1.5 * layer), "cpu": 10**9}
    places = infer_auto_device_map(whole, room, no_split_module_classes=whole._no_split_modules)
    assert any(name.startswith("model.layers") for name in places)
    assert not any(name.startswith("model.layers.") and name.count(".") > 2 for name in places), places

    device_map = {"model.embed_tokens": "cpu", "lm_head": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu"}
    device_map |= {f"model.layers.{index}": "disk" if index % 2 else "cpu" for index in range(len(whole.model.layers))}
    spread = type(whole).from_pretrained(folder, device_map=device_map, offload_folder=tmp_path / "offload")
    assert spread.hf_device_map["model.layers.1"] == "disk"
    assert torch.equal(logits(spread.eval(), tokens), logits(whole, tokens))
    cached, plain = (
        spread.generate(tokens[:2], max_new_tokens=4, do_sample=False, use_cache=use) for use in (True, False)
    )
    assert torch.equal(cached, plain)

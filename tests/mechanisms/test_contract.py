"""What every method owes its user, on every family: the same tests for all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import infer_auto_device_map
from safetensors.torch import load_file

import llm_pruner
from llm_pruner.methods import METHODS
from llm_pruner.models.architecture import read_architecture
from llm_pruner.planning.plan import Plan
from llm_pruner.system.errors import CheckpointError, PlanError
from llm_pruner.system.files import read_json
from llm_pruner.variants.variant import load_class
from tests.tiny.families import FAMILIES
from tests.tiny.foreign import foreign_logits
from tests.tiny.making import make
from tests.tiny.models import build_model, logits, project_out

AMOUNTS = {
    "dense": [("", {})],
    "width": [
        ("_2000", {}),
        ("_mlp_2000", {"split": "0:1"}),
        ("_uniform_3500", {"uniform": True}),
        ("_even_1500", {"multiple_of": 8}),
    ],
    "depth": [
        ("_remove_1", {}),
        ("_remove_3", {}),
        ("_protected_remove_2", {"protect_first": 1}),
        ("_attention_remove_2", {"drop": "attention"}),
        ("_mlp_remove_1", {"drop": "mlp"}),
    ],
    "sparse": [("_unstructured_5000", {}), ("_2of4", {}), ("_4of8", {})],
    "slice": [("_2500", {}), ("_uneven_3000", {"schedule": "variance", "multiple_of": 2})],
}
ALL_STEPS = {"steps": 3}
CASES = [
    # as many layers ranked as the largest amount needs, where a method ranks one after the other
    (f"{method}{suffix}", options | (ALL_STEPS if "steps" in load_class(METHODS[method]).Options.model_fields else {}))
    for method in METHODS
    for mechanism in load_class(METHODS[method]).mechanisms
    for suffix, options in AMOUNTS[mechanism]
    # half of the four layers kept whole leaves no room for one shape for all, nor for wide multiples
    if not ({"uniform", "multiple_of"} & options.keys() and "layer_range" in load_class(METHODS[method]).defaults)
    if options.get("drop") in (None, *load_class(METHODS[method]).parts)
]
CASES += [
    (f"GQA_{label}_2000", options)
    for label, options in {
        "inverse": {"allocation": "inverse", "max_rate": 0.5},
        "proportional": {"allocation": "proportional", "importance": "Activation", "min_rate": 0.1, "log": False},
        "frozen": {"freeze_top_layers": 2, "importance": "ShortGPT"},
        "middle": {"layer_range": "1:-1", "allocation": "global", "split": "5:5"},
        "kept": {"gradient_checkpointing": False},
    }.items()
]
CASES += [(f"GQA_{taylor}_2000", {"taylor": taylor}) for taylor in ("second", "mixed", "vectorized")]
NAMES = [name for name, _ in CASES]


def masked_dense(family: str, output: Path, tokens: torch.Tensor) -> Any:
    """The dense model with what was removed zeroed, bypassed or projected out: an independent account of the same
    pruning."""
    model = build_model(family)
    if sliced := read_json(output / "model" / "config.json").get("sliced"):
        return project_out(model, tokens, sliced["widths"])
    plan = Plan.read(output / "plan.json") if (output / "plan.json").exists() else None
    if plan is None:
        model.load_state_dict(load_file(output / "model" / "model.safetensors"), strict=False)
        return model
    layers = model.model.layers
    heads_per_group = model.config.num_attention_heads // model.config.num_key_value_heads
    for kept in plan.layers:
        attention, mlp = layers[kept.index].self_attn, layers[kept.index].mlp
        width = attention.head_dim * heads_per_group
        for group in set(range(model.config.num_key_value_heads)) - set(kept.groups):
            attention.o_proj.weight.data[:, group * width : (group + 1) * width] = 0
        gone = sorted(set(range(model.config.intermediate_size)) - set(kept.channels))
        mlp.down_proj.weight.data[:, gone] = 0
    gone = plan.removed_layers
    for projection in (
        *(layers[index].self_attn.o_proj for index in gone + plan.dropped_blocks("attention")),
        *(layers[index].mlp.down_proj for index in gone + plan.dropped_blocks("mlp")),
    ):
        # whatever these add to the residual stream is nothing
        for parameter in projection.parameters():
            parameter.data.zero_()
    return model


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)
def test_contract(
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
    expected = logits(masked_dense(family, tmp_path, tokens), tokens)
    torch.testing.assert_close(logits(pruned, tokens), expected, rtol=1e-4, atol=1e-5)

    before, after = read_architecture(base), read_architecture(folder)
    assert sum(parameter.numel() for parameter in pruned.parameters()) == after.total_parameters
    check_size(record, options, before, after)

    prompt = tokens[:2]
    cached, plain = (
        pruned.generate(prompt, max_new_tokens=12, do_sample=False, use_cache=use_cache) for use_cache in (True, False)
    )
    assert torch.equal(cached, plain)


def check_size(record: dict[str, Any], options: dict[str, Any], before: Any, after: Any) -> None:
    """What was reached is what is on disk, and as near to what was asked as whole units allow."""
    removed = before.total_parameters - after.total_parameters
    if record["mechanism"] == "dense":
        assert removed == 0
    elif options.get("drop"):
        blocks = [block for index in range(after.num_layers) for block in after.dropped_blocks(index)]
        assert blocks == [options["drop"]] * record["asked"]["amount"]
        assert record["reached"] == {"amount": len(blocks), "of": record["asked"]["of"]}
    elif record["mechanism"] == "depth":
        assert before.num_layers - after.num_layers == record["asked"]["amount"] == record["reached"]["amount"]
    elif record["mechanism"] == "sparse":
        assert removed == 0
        zeros = sum(entry.numel - entry.count_nonzero() for name, entry in after.tensors.items() if "_proj.w" in name)
        assert zeros / before.linear_parameters() == record["reached"]["amount"]
        # counts are rounded down in every row
        assert record["asked"]["amount"] * 0.9 < record["reached"]["amount"] <= record["asked"]["amount"]
    elif record["mechanism"] == "slice":
        widths, hidden = after.config["sliced"]["widths"], before.hidden_size
        mean = sum(widths[:-1]) / (2 * before.num_layers)
        assert len(widths) == 2 * before.num_layers + 1 and widths[-1] == hidden
        assert record["reached"]["amount"] == pytest.approx(1 - mean / hidden)
        asked = hidden * (1 - record["asked"]["amount"])
        assert asked - options.get("multiple_of", 8) < mean <= asked
        assert all(width % options.get("multiple_of", 8) == 0 for width in widths)
    else:
        assert removed / before.total_parameters == pytest.approx(record["reached"]["amount"])
        shape = before.layers[0]
        step = shape.channel_parameters * options.get("multiple_of", 1)
        if all(now.channels in (1, was.channels) for was, now in zip(before.layers, after.layers, strict=True)):
            step = shape.group_parameters  # every layer that may lose channels has lost all it can
        group = step * (before.num_layers if options.get("uniform") else 1)
        assert abs(removed - record["asked"]["amount"] * before.total_parameters) <= group
        noted = any("is the nearest to" in note for note in record["notes"])
        assert noted is (abs(record["reached"]["amount"] - record["asked"]["amount"]) > 0.005)
        if options.get("uniform"):
            assert len(set(after.layers)) == 1
            assert "per_layer_config" not in after.config
        if options.get("multiple_of"):
            assert all(layer.channels % options["multiple_of"] == 0 for layer in after.layers)


@pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)
def test_deterministic(
    name: str, options: dict[str, Any], make_model: Callable[..., Path], token_file: Path, tmp_path: Path
) -> None:
    contents = []
    for run in ("first", "second"):
        make(name, options, make_model("qwen3"), token_file, tmp_path / run)
        contents.append((tmp_path / run / "model" / "model.safetensors").read_bytes())
    assert contents[0] == contents[1]


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
        for name, options, trust in (
            ("GQA_2000", {}, True),
            ("GQA_uniform_2000", {"uniform": True}, False),
            ("ShortGPT_attention_remove_2", {"drop": "attention"}, True),
            ("SliceGPT_2500", {}, True),
        )
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


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Magnitude_9900", {}, "at most"),
        ("ShortGPT_remove_4", {}, "has 4 layers, at most 3"),
        ("Magnitude_3of7", {}, "multiples of 7"),
        ("SliceGPT_8000", {}, "leaves less than 8"),
    ],
)
def test_impossible_amounts(
    name: str, options: dict[str, Any], message: str, make_model: Callable[..., Path], token_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match=message):
        make(name, options, make_model("llama"), token_file, tmp_path)
    assert not (tmp_path / "model").exists()
    assert not list(tmp_path.glob(".model*"))


@pytest.mark.parametrize(
    "name",
    [
        "Wanda_2000",
        "GQA_2000",
        "Magnitude_2000",
        "SliceGPT_2500",
        *(f"{method}_remove_1" for method in METHODS if "depth" in load_class(METHODS[method]).mechanisms),
    ],
)
def test_damaged_weights(name: str, token_file: Path, tmp_path: Path) -> None:
    model = build_model("llama")
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    model.save_pretrained(tmp_path / "base")
    with pytest.raises(CheckpointError, match="not finite"):
        make(name, {}, tmp_path / "base", token_file, tmp_path / "out")
    assert not (tmp_path / "out" / "model").exists()


def test_missing_base(token_file: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        make("Magnitude_2of4", {}, tmp_path / "nowhere", token_file, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "options"),
    [("Dense", {}), ("GQA_2000", {}), ("ShortGPT_mlp_remove_1", {"drop": "mlp"}), ("SliceGPT_2500", {})],
)
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

"""Biases that stand for removed inputs: against means taken by hand, and where a model with them loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

import llm_pruner
from llm_pruner.data.tokens import read_tokens
from llm_pruner.exports.uniform import write_uniform
from llm_pruner.mechanisms import get_mechanism
from llm_pruner.models.architecture import read_architecture
from llm_pruner.models.biases import with_output_biases
from llm_pruner.planning.plan import Plan
from llm_pruner.surgery.cut import cut
from llm_pruner.system.errors import PlanError
from llm_pruner.system.files import read_json
from llm_pruner.variants.grammar import resolve
from llm_pruner.variants.records import PruningRecord
from tests.tiny.families import FAMILIES
from tests.tiny.making import make
from tests.tiny.models import build_model, hidden_states, logits

OUTPUTS = ("self_attn.o_proj", "mlp.down_proj")
AS_PUBLISHED = {"bias": {"inputs": "dense", "weigh": "equal", "held_out": 0}}
NO_BIASES = {"attention_bias": False, "mlp_bias": False}


def columns_removed(plan: Plan, model: Any) -> dict[tuple[int, str], list[int]]:
    """By layer and output, by hand."""
    removed = {}
    for layer in plan.layers:
        attention, mlp = model.model.layers[layer.index].self_attn, model.model.layers[layer.index].mlp
        owners = torch.arange(attention.o_proj.in_features) // attention.num_key_value_groups // attention.head_dim
        removed[layer.index, OUTPUTS[0]] = [
            column for column, group in enumerate(owners.tolist()) if group not in layer.groups
        ]
        removed[layer.index, OUTPUTS[1]] = sorted(set(range(mlp.down_proj.in_features)) - set(layer.channels))
    return removed


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bias_is_what_removed_columns_gave_on_average(
    family: str, make_model: Callable[..., Path], token_file: Path, tmp_path: Path
) -> None:
    record = make("Magnitude_2000", {"repair": AS_PUBLISHED}, make_model(family), token_file, tmp_path)
    assert record.repair and all(linear.kept for linear in record.repair.linears)
    assert "mean squared error on the fitted samples" in record.repair.note()
    dense = build_model(family)
    seen: dict[tuple[int, str], list[torch.Tensor]] = {}
    for index, layer in enumerate(dense.model.layers):
        for name in OUTPUTS:
            inputs = seen.setdefault((index, name), [])
            layer.get_submodule(name).register_forward_pre_hook(lambda _, args, to=inputs: to.append(args[0]))
    logits(dense, read_tokens(token_file))
    written = load_file(tmp_path / "model" / "model.safetensors")
    removed = columns_removed(Plan.read(tmp_path / "plan.json"), dense)
    assert any(removed[index, OUTPUTS[0]] for index in range(4))
    for (index, name), gone in removed.items():
        linear = dense.model.layers[index].get_submodule(name)
        mean = torch.cat(seen[index, name]).flatten(0, 1).mean(0)
        expected = linear.weight[:, gone] @ mean[gone]
        if linear.bias is not None:
            expected = expected + linear.bias
        torch.testing.assert_close(
            written[f"model.layers.{index}.{name}.bias"], expected.detach(), rtol=1e-4, atol=1e-5
        )
        kept = [column for column in range(linear.in_features) if column not in gone]
        assert torch.equal(written[f"model.layers.{index}.{name}.weight"], linear.weight[:, kept])


def test_sequential_biases_keep_the_mean_of_the_residual_stream(
    make_model: Callable[..., Path], token_file: Path, tmp_path: Path
) -> None:
    base, tokens = make_model("mistral"), read_tokens(token_file)
    for name, repair in (("plain", "none"), ("repaired", {"bias": {"weigh": "equal", "held_out": 0}})):
        make("Magnitude_2000", {"repair": repair}, base, token_file, tmp_path / name)
    dense, plain, repaired = (
        torch.stack(hidden_states(llm_pruner.load(folder), tokens)).mean(dim=(1, 2))
        for folder in (base, tmp_path / "plain" / "model", tmp_path / "repaired" / "model")
    )
    torch.testing.assert_close(repaired, dense, rtol=1e-4, atol=1e-5)
    assert (plain - dense).abs().max() > 1e-2


def test_a_bias_that_held_out_samples_do_not_like_stays_zero(
    make_model: Callable[..., Path], token_file: Path, tmp_path: Path
) -> None:
    repair = {"bias": {"held_out": 0.5}}
    record = make("Random_3000", {"repair": repair}, make_model("qwen3"), token_file, tmp_path)
    assert record.repair and any("held-out samples" in note for note in record.notes)
    written = load_file(tmp_path / "model" / "model.safetensors")
    outcomes = set()
    for linear in record.repair.linears:
        bias = written[f"model.layers.{linear.layer}.{linear.linear}.bias"]
        assert bool(bias.any()) is linear.kept is (linear.after < linear.before)
        outcomes.add(linear.kept)
    assert outcomes == {True, False}


# where a model with biases loads


def test_a_llama_of_one_shape_is_an_ordinary_llama(
    make_model: Callable[..., Path], token_file: Path, tokens: torch.Tensor, tmp_path: Path
) -> None:
    base = make_model("llama", **NO_BIASES)
    record = make("FLAP_uniform_2000", {"uniform": True}, base, token_file, tmp_path)
    config = read_json(tmp_path / "model" / "config.json")
    assert config["attention_bias"] is config["mlp_bias"] is True
    assert "auto_map" not in config and not list((tmp_path / "model").glob("*.py"))
    pruned, loading = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    torch.testing.assert_close(logits(pruned, tokens), logits(llm_pruner.load(tmp_path / "model"), tokens))
    for name, parameter in pruned.named_parameters():
        if name.endswith(".bias"):
            assert bool(parameter.any()) is name.endswith("mlp.down_proj.bias") or "o_proj" in name, name
    before, after = (read_architecture(folder) for folder in (base, tmp_path / "model"))
    assert pruned.num_parameters() == after.total_parameters
    reached = 1 - after.total_parameters / before.total_parameters
    assert record.reached and record.reached.amount == pytest.approx(reached)
    # a channel of all four layers is the finest step
    assert abs(reached - 0.2) * before.total_parameters <= 4 * after.layers[0].channel_parameters


@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3"])
def test_uniform_is_refused_where_the_familys_own_class_has_no_such_bias(
    family: str, make_model: Callable[..., Path], token_file: Path, tmp_path: Path
) -> None:
    base = make_model(family)
    told = (
        rf"{family} class of transformers loads, .* no place for a bias of mlp.down_proj.*leave uniform out, or choose"
    )
    for name, options in (("Magnitude_2000", {"repair": "bias"}), ("FLAP_2000", {})):
        variant = resolve(name, {"uniform": True, **options})
        with pytest.raises(PlanError, match=told):
            get_mechanism("width").check(variant, read_architecture(base))
    with pytest.raises(PlanError, match=told):
        make("FLAP_2000", {"uniform": True}, base, token_file, tmp_path)
    assert not (tmp_path / "model").exists()
    get_mechanism("width").check(resolve("FLAP_2000", {"uniform": True, "repair": "none"}), read_architecture(base))


def test_flap_has_its_biases_unless_told_otherwise(
    make_model: Callable[..., Path], token_file: Path, tmp_path: Path
) -> None:
    assert resolve("FLAP_2000").options["repair"] == {"bias": {**AS_PUBLISHED["bias"], "samples": None}}
    base = make_model("mistral")
    make("FLAP_2000", {"repair": "none"}, base, token_file, tmp_path / "without")
    assert PruningRecord.read(tmp_path / "without" / "pruning.json").repair is None
    assert not [name for name in read_architecture(tmp_path / "without" / "model").tensors if "bias" in name]


def test_what_a_configuration_must_say(make_model: Callable[..., Path]) -> None:
    attention, mlp = OUTPUTS
    expected = {
        make_model("mistral"): {"added_biases": [mlp, attention]},
        make_model("qwen3", attention_bias=True): {"added_biases": [mlp]},
        make_model("llama", attention_bias=False): {"attention_bias": True, "mlp_bias": True},
    }
    for folder, said in expected.items():
        before = read_architecture(folder)
        after = with_output_biases(before)
        assert after.config == {**before.config, **said}
        assert with_output_biases(after) is after
    whole = read_architecture(make_model("llama"))
    assert with_output_biases(whole) is whole


def test_a_model_with_added_biases_is_pruned_further(
    make_model: Callable[..., Path], make_parent: Callable[..., Path], tokens: torch.Tensor, tmp_path: Path
) -> None:
    """A block that goes takes its bias along; the other biases stay."""
    parent = make_parent("FLAP_2000", {}, make_model("qwen2")) / "model"
    architecture = read_architecture(parent)
    cut(parent, Plan.drop_blocks(architecture, "attention", [1]), tmp_path / "model")
    smaller = llm_pruner.load(tmp_path / "model")
    without = llm_pruner.load(parent)
    for parameter in without.model.layers[1].self_attn.o_proj.parameters():
        parameter.data.zero_()
    torch.testing.assert_close(logits(smaller, tokens), logits(without, tokens), rtol=1e-4, atol=1e-5)
    assert smaller.num_parameters() == read_architecture(tmp_path / "model").total_parameters
    with pytest.raises(PlanError, match=r"leave uniform out$"):
        get_mechanism("width").check(resolve("Magnitude_1000", {"uniform": True}), architecture)


def test_padding_to_one_shape(
    make_model: Callable[..., Path], make_parent: Callable[..., Path], tokens: torch.Tensor, tmp_path: Path
) -> None:
    parent = make_parent("FLAP_2000", {}, make_model("llama", **NO_BIASES)) / "model"
    write_uniform(parent, tmp_path / "padded")
    padded = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "padded")
    torch.testing.assert_close(logits(padded, tokens), logits(llm_pruner.load(parent), tokens), rtol=1e-4, atol=1e-5)
    parent = make_parent("FLAP_2000", {}, make_model("qwen2")) / "model"
    with pytest.raises(PlanError, match=r"its mlp.down_proj and self_attn.o_proj have a bias, which .* qwen2 has no"):
        write_uniform(parent, tmp_path / "refused")

"""Padding to one shape keeps the logits; pickled weights are read as tensors or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from llm_pruner.exports.legacy import convert_legacy
from llm_pruner.exports.uniform import write_uniform
from llm_pruner.models.architecture import read_architecture
from llm_pruner.models.checkpoint import load
from llm_pruner.planning.plan import LayerPlan, Plan
from llm_pruner.surgery.cut import cut
from llm_pruner.system.errors import CheckpointError, PlanError


def logits(folder: Path, tokens: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return load(folder)(tokens).logits


@pytest.fixture
def ragged(make_model: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Cuts a model so that its layers keep these numbers of groups, and of channels."""

    def make(family: str, groups: list[int], channels: list[int]) -> Path:
        base = make_model(family)
        layers = tuple(
            LayerPlan(index, tuple(range(1, 1 + g)) if g < 4 else tuple(range(4)), tuple(range(c)))
            for index, (g, c) in enumerate(zip(groups, channels, strict=True))
        )
        cut(base, Plan(4, layers), tmp_path / family)
        return tmp_path / family

    return make


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_padding_keeps_the_logits(
    family: str, ragged: Callable[..., Path], tokens: torch.Tensor, tmp_path: Path
) -> None:
    model = ragged(family, [2, 1, 2, 1], [10, 20, 5, 7])
    padded = write_uniform(model, tmp_path / "uniform")
    assert (padded["key_value_groups"], padded["channels"]) == (2, 20)
    before, after = read_architecture(model), read_architecture(tmp_path / "uniform")
    assert padded["parameters"] == {
        "before": before.total_parameters,
        "after": after.total_parameters,
        "added": after.total_parameters - before.total_parameters,
    }
    assert padded["parameters"]["added"] > 0
    assert len({(layer.heads, layer.key_value_groups, layer.channels) for layer in after.layers}) == 1
    assert not (tmp_path / "uniform" / "modeling_ragged.py").exists()
    # transformers' own class, no code of ours
    own, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "uniform", output_loading_info=True)
    assert type(own).__module__.startswith("transformers.") and not any(info[key] for key in ("missing_keys",))
    with torch.inference_mode():
        torch.testing.assert_close(own.eval()(tokens).logits, logits(model, tokens), atol=1e-5, rtol=1e-5)


def test_padding_refuses_what_the_family_refuses(ragged: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="6 query heads a layer, which llama refuses"):
        write_uniform(ragged("llama", [3, 1, 2, 1], [10, 20, 5, 7]), tmp_path / "uniform")
    assert not (tmp_path / "uniform").exists()
    assert write_uniform(ragged("mistral", [3, 1, 2, 1], [10, 20, 5, 7]), tmp_path / "uniform")["key_value_groups"] == 3


def test_padding_a_model_of_one_shape_changes_nothing(make_model: Callable[..., Path], tmp_path: Path) -> None:
    padded = write_uniform(make_model("qwen2"), tmp_path / "uniform")
    assert padded["parameters"]["added"] == 0
    for key in ("num_attention_heads", "num_key_value_heads", "intermediate_size", "layer_types"):
        assert json.loads((tmp_path / "uniform" / "config.json").read_text())[key] == getattr(
            transformers.AutoConfig.from_pretrained(make_model("qwen2")), key
        )


@pytest.mark.parametrize("family", ["llama", "qwen3"])  # the latter ties its embeddings
def test_a_pickled_state_dict_becomes_a_folder(
    family: str, make_model: Callable[..., Path], tokens: torch.Tensor, tmp_path: Path
) -> None:
    base = make_model(family)
    file = tmp_path / "pruned_model.bin"
    inverse = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3)}
    torch.save({**load(base).state_dict(), **inverse}, file)
    convert_legacy(file, base, tmp_path / "model")
    assert torch.equal(logits(tmp_path / "model", tokens), logits(base, tokens))


class Harmful:
    """Pickled, it would touch a file when read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda folder: {"weight": Harmful(folder / "harmed")}, "not read"),
        (lambda _: torch.nn.Linear(2, 2), "not read"),
        (lambda _: [torch.ones(2)], "not a state dict"),
        (lambda _: {}, "not a state dict"),
        (lambda _: {"model.embed_tokens.weight": torch.ones(2, 2)}, "lacks 'model.layers.0"),
    ],
    ids=["code", "model", "list", "empty", "incomplete"],
)
def test_other_pickles_are_refused(
    content: Callable[[Path], Any], message: str, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    file = tmp_path / "pruned_model.bin"
    torch.save(content(tmp_path), file)
    with pytest.raises(CheckpointError, match=message):
        convert_legacy(file, make_model(), tmp_path / "model")
    assert not (tmp_path / "harmed").exists() and not (tmp_path / "model").exists()


def test_a_pickle_of_other_shapes_or_cut_off_is_refused(make_model: Callable[..., Path], tmp_path: Path) -> None:
    file = tmp_path / "pruned_model.bin"
    weights = load(make_model()).state_dict()
    torch.save({**weights, "model.norm.weight": torch.ones(31)}, file)
    with pytest.raises(CheckpointError, match=r"'model.norm.weight' is \[31\], but config.json asks for \[32\]"):
        convert_legacy(file, make_model(), tmp_path / "model")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged"):
        convert_legacy(file, make_model(), tmp_path / "model")

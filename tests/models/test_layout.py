"""What of each parameter belongs to which unit, and what no family can be silently wrong in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import llm_pruner
from llm_pruner.models import architecture
from llm_pruner.models.architecture import Family, LayerShape, read_architecture
from llm_pruner.models.carried import ragged
from llm_pruner.models.layout import BLOCKS, CUTS, NORMS, SHORTCUTS, expected_linears, linears_among, norm_layout
from llm_pruner.planning.plan import LayerPlan, Plan
from llm_pruner.repairs.dense_states import DenseStates
from llm_pruner.scoring.stream import LayerStream
from llm_pruner.surgery.cut import cut, slice_parameter
from llm_pruner.system.errors import CheckpointError
from tests.tiny.families import FAMILIES, SHAPE
from tests.tiny.foreign import foreign_states

OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "granite": (
        "Granite",
        {"logits_scaling": 8.0, "embedding_multiplier": 3.0, "residual_multiplier": 0.5, "attention_multiplier": 0.2},
    ),
    "gemma": ("Gemma", {"head_dim": 8}),
    "gemma2": ("Gemma2", {"head_dim": 8, "sliding_window": 8, "final_logit_softcapping": 2.0}),
    "olmo2": ("Olmo2", {}),
    "glm4": ("Glm4", {"head_dim": 8}),
    "phi3": ("Phi3", {}),
}
"""Families that are not supported, each of which leaves the usual block somewhere."""

other_families = pytest.mark.parametrize("family", OTHERS)


@pytest.fixture
def make_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Saves a random model of one of the others, and lets it through as if its family were supported."""
    import transformers

    def make(family: str) -> Path:
        name, own = OTHERS[family]
        config = getattr(transformers, f"{name}Config")(**{**SHAPE, **own})
        config._attn_implementation = "eager"
        model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
        generator = torch.Generator().manual_seed(7)
        for parameter in model.parameters():
            parameter.data.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.15, generator=generator)
        model.save_pretrained(tmp_path / family)
        monkeypatch.setattr(architecture, "FAMILIES", {**architecture.FAMILIES, family: Family(f"{name}ForCausalLM")})
        monkeypatch.setattr("llm_pruner.models.checkpoint.FAMILIES", architecture.FAMILIES)
        monkeypatch.setattr("llm_pruner.surgery.cut.FAMILIES", architecture.FAMILIES)
        return tmp_path / family

    return make


def test_cuts_keep_what_belongs_to_the_units_that_stay() -> None:
    """Every number of a weight says which unit it belongs to; by hand for two of three groups, heads of width 2."""
    shape = LayerShape(heads=6, key_value_groups=3, channels=4, group_parameters=0, channel_parameters=0)
    keep = LayerPlan(0, (0, 2), (1, 3))
    units = {
        "query": [(head // 2, "group") for head in range(6) for _ in range(2)],
        "key_value": [(group, "group") for group in range(3) for _ in range(2)],
        "head": [(head // 2, "group") for head in range(6)],
        "channel": [(channel, "channel") for channel in range(4)],
    }
    kept = {(0, "group"), (2, "group"), (1, "channel"), (3, "channel")}
    for name, row in CUTS.items():
        owners = [owner for segment in row.segments for owner in units[segment]]
        numbers = torch.arange(len(owners))
        expected = [number for number, owner in enumerate(owners) if owner in kept]
        weight = numbers[:, None].expand(-1, 5) if row.axis == 0 else numbers.expand(5, -1)
        result = slice_parameter(f"block.{name}.weight", weight, keep, shape, 2)
        assert result.select(1 - row.axis, 0).tolist() == expected, name
        bias = slice_parameter(f"block.{name}.bias", numbers, keep, shape, 2)
        assert bias.tolist() == (expected if row.axis == 0 else numbers.tolist()), name
    norm = torch.ones(2)
    assert slice_parameter("self_attn.q_norm.weight", norm, keep, shape, 2) is norm


def test_fused_linears_stand_for_their_parts() -> None:
    names = {"self_attn.qkv_proj.weight", "self_attn.o_proj.weight", "mlp.gate_up_proj.weight", "mlp.down_proj.weight"}
    linears = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
    assert expected_linears(names) == linears_among(names) == linears


def test_norms_in_unknown_places_are_refused() -> None:
    with pytest.raises(CheckpointError, match="attention_layernorm, feedforward_layernorm have no supported"):
        norm_layout(["self_attn", "mlp", "attention_layernorm", "feedforward_layernorm"])
    assert norm_layout(["self_attn", "mlp", *NORMS[0].names, *SHORTCUTS]) is NORMS[0]


def test_the_carried_file_knows_the_same_norms() -> None:
    assert [tuple(norms[block] for block in BLOCKS) for norms in ragged.BLOCK_NORMS] == [
        (norms.attention, norms.mlp) for norms in NORMS
    ]


@other_families
def test_stream_and_head_are_the_familys_own(
    family: str, make_other: Callable[[str], Path], tokens: torch.Tensor
) -> None:
    folder = make_other(family)
    model = llm_pruner.load(folder)
    states: list[torch.Tensor] = []
    for layer in model.model.layers:
        layer.register_forward_hook(lambda _m, _args, output: states.append(output))
    with torch.no_grad():
        expected = model(input_ids=tokens, labels=tokens).loss
    stream = LayerStream(folder, tokens)
    for layer in stream:
        torch.testing.assert_close(layer.outputs()[0], states[layer.index], rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(stream.head()(layer.outputs()[0], tokens), expected, rtol=1e-5, atol=1e-6)


@other_families
def test_between_blocks_is_the_stream_without_the_mlp(
    family: str, make_other: Callable[[str], Path], tokens: torch.Tensor
) -> None:
    """What leaves attention is what leaves the layer where the MLP adds nothing."""
    folder = make_other(family)
    for layer in LayerStream(folder, tokens, part="attention"):
        middle = [after for _, after in layer.run()]
        torch.testing.assert_close(middle, layer.without("mlp"), rtol=1e-5, atol=1e-5)


@other_families
def test_what_stands_between_a_block_and_the_stream_is_known(
    family: str, make_other: Callable[[str], Path], tokens: torch.Tensor
) -> None:
    """Repairs ask: a factor can be undone, a norm cannot."""
    for layer in LayerStream(make_other(family), tokens):
        found = DenseStates.of(layer).factors
        expected = {"granite": 0.5, "gemma2": None, "olmo2": None, "glm4": None}.get(family, 1.0)
        assert found == ({} if expected is None else pytest.approx(dict.fromkeys(BLOCKS, expected), rel=1e-5))


@pytest.mark.parametrize("family", ["granite", "gemma", "gemma2", "glm4", "phi3"])
def test_layers_keep_their_own_widths(
    family: str, make_other: Callable[[str], Path], tokens: torch.Tensor, tmp_path: Path
) -> None:
    """Cut layers compute what the dense model does whose output weights of the units that went are zero."""
    folder = make_other(family)
    everything = tuple(range(4)), tuple(range(24))
    plan = Plan(
        4, (LayerPlan(0, *everything), LayerPlan(1, (0, 2), (1, 2, 5)), *(LayerPlan(i, *everything) for i in (2, 3)))
    )
    cut(folder, plan, tmp_path / "cut")
    model = llm_pruner.load(folder)
    layer = model.model.layers[1]
    shape = read_architecture(folder)
    width = shape.head_dim * shape.layers[1].heads_per_group
    for group in (1, 3):
        layer.self_attn.o_proj.weight.data[:, group * width : (group + 1) * width] = 0
    layer.mlp.down_proj.weight.data[:, [channel for channel in range(24) if channel not in (1, 2, 5)]] = 0
    with torch.no_grad():
        expected = model(tokens).logits
        cut_model = llm_pruner.load(tmp_path / "cut")
        torch.testing.assert_close(cut_model(tokens).logits, expected, rtol=1e-4, atol=1e-5)
    removed = plan.removed_parameters(shape)
    assert shape.total_parameters - removed == read_architecture(tmp_path / "cut").total_parameters


def test_slicing_refuses_norms_behind_blocks(make_other: Callable[[str], Path]) -> None:
    assert read_architecture(make_other("granite")).norms.rotatable
    for family in ("gemma2", "olmo2", "glm4"):
        assert not read_architecture(make_other(family)).norms.rotatable


def test_auto_model_reads_what_was_pruned(
    make_model: Callable[..., Path],
    make_parent: Callable[..., Path],
    token_file: Path,
    tokens: torch.Tensor,
    tmp_path: Path,
) -> None:
    """In a process without this package; hidden states are those of the causal model's base."""
    folders = [
        make_parent(name, options, make_model(family)) / "model"
        for name, options in (
            ("GQA_2000", {}),
            ("ShortGPT_attention_remove_2", {"drop": "attention"}),
            ("SliceGPT_2500", {}),
        )
        for family in FAMILIES
    ]
    for folder, theirs in foreign_states(folders, token_file, tmp_path / "room").items():
        with torch.inference_mode():
            assert torch.equal(theirs, llm_pruner.load(folder).model(tokens).last_hidden_state), folder


def test_one_family_is_imported() -> None:
    made = ragged.RaggedMistralForCausalLM
    assert made is ragged.RaggedMistralForCausalLM
    assert made.__name__ == "RaggedMistralForCausalLM"
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        ragged.Other  # noqa: B018

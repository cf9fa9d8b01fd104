"""Width pruning of models of every shape: the pruned model computes what the dense one does without the same units."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import llm_pruner
from llm_pruner.models.architecture import read_architecture
from llm_pruner.planning.plan import LayerPlan, Plan
from llm_pruner.search.split import masked
from llm_pruner.surgery.cut import cut
from tests.tiny.families import FAMILIES
from tests.tiny.models import build_model


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, object]:
    family = draw(st.sampled_from(sorted(FAMILIES)))
    groups, per_group = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    head_dim = draw(st.sampled_from([2, 4, 6]))
    # Llama's configuration refuses heads that do not divide the hidden size; the others' head_dim is apart from both
    hidden = groups * per_group * draw(st.integers(1, 2)) if family == "llama" else draw(st.sampled_from([12, 20, 32]))
    shape = {
        "family": family,
        "hidden_size": hidden,
        "num_hidden_layers": draw(st.integers(1, 3)),
        "num_attention_heads": groups * per_group,
        "num_key_value_heads": groups,
        "head_dim": head_dim,
        "intermediate_size": draw(st.integers(1, 20)),
        "tie_word_embeddings": draw(st.booleans()),
    }
    if family == "llama":
        shape |= {"attention_bias": draw(st.booleans()), "mlp_bias": draw(st.booleans())}
    if family == "qwen2":
        shape |= {"use_sliding_window": False}
    return shape


@st.composite
def plans(draw: st.DrawFn, shape: dict[str, int]) -> Plan:
    def some(count: int, least: int) -> tuple[int, ...]:
        return tuple(sorted(draw(st.sets(st.integers(0, count - 1), min_size=least))))

    def layer(index: int) -> LayerPlan:
        groups = some(shape["num_key_value_heads"], draw(st.integers(0, 1)))
        return LayerPlan(index, groups, some(shape["intermediate_size"], draw(st.integers(0 if groups else 1, 1))))

    layers = range(shape["num_hidden_layers"])
    return Plan(len(layers), tuple(map(layer, layers)))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_pruned_logits_are_those_of_the_dense_model_without_the_units(data: st.DataObject) -> None:
    shape = data.draw(shapes())
    plan = data.draw(plans(shape))
    family = shape.pop("family")
    dense = build_model(family, **shape)
    tokens = torch.randint(3, 97, (2, 9), generator=torch.Generator().manual_seed(1))
    with tempfile.TemporaryDirectory() as root:
        base, pruned = Path(root) / "base", Path(root) / "pruned"
        dense.save_pretrained(base)
        cut(base, plan, pruned)
        architecture = read_architecture(base)
        model = llm_pruner.load(pruned)
        with torch.inference_mode():
            with masked(dense, architecture, plan):
                without = dense(input_ids=tokens, use_cache=False).logits
            blocks = any(layer.dropped for layer in plan.layers)
            zeroed = zero_units(dense, architecture, plan)(input_ids=tokens, use_cache=False).logits
            logits = model(input_ids=tokens, use_cache=False).logits
        torch.testing.assert_close(logits, zeroed, rtol=1e-4, atol=1e-5)
        if not blocks:  # a dropped block takes its output's bias with it, which no mask of units does
            torch.testing.assert_close(without, zeroed, rtol=1e-4, atol=1e-5)
        assert model.num_parameters() == architecture.total_parameters - plan.removed_parameters(architecture)


def zero_units(model, architecture, plan: Plan):
    """Set to zero every weight and bias of the units that a plan removes, and of the blocks that go as a whole."""
    for kept in plan.layers:
        shape, layer = architecture.layers[kept.index], model.model.layers[kept.index]
        outputs = {"attention": layer.self_attn.o_proj, "mlp": layer.mlp.down_proj}
        for block in kept.dropped:
            zero_rows(outputs[block], slice(None))
        per_head = architecture.head_dim
        for group in set(range(shape.key_value_groups)) - set(kept.groups):
            keys = slice(group * per_head, (group + 1) * per_head)
            width = per_head * shape.heads_per_group
            queries = slice(group * width, (group + 1) * width)
            for name, rows in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
                zero_rows(getattr(layer.self_attn, name), rows)
            layer.self_attn.o_proj.weight.data[:, queries] = 0
        for channel in set(range(shape.channels)) - set(kept.channels):
            zero_rows(layer.mlp.gate_proj, channel)
            zero_rows(layer.mlp.up_proj, channel)
            layer.mlp.down_proj.weight.data[:, channel] = 0
    return model


def zero_rows(linear, rows) -> None:
    linear.weight.data[rows] = 0
    if linear.bias is not None:
        linear.bias.data[rows] = 0

"""The layer loop sees what the whole model computes, and evidence is what its definition says."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch

from llm_pruner.methods.ablation import Ablation
from llm_pruner.models.architecture import read_architecture
from llm_pruner.models.checkpoint import load
from llm_pruner.models.layout import LINEARS
from llm_pruner.planning.plan import LayerPlan, Plan
from llm_pruner.scoring.evidence import gather, input_norms
from llm_pruner.scoring.stream import LayerStream
from llm_pruner.scoring.stream_weights import stream_weights
from llm_pruner.surgery.cut import cut
from llm_pruner.system.files import read_json
from llm_pruner.system.runtime import Runtime
from tests.tiny import ROOT
from tests.tiny.families import FAMILIES
from tests.tiny.models import hidden_states


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch_size", [6, 4])
def test_streams_what_the_model_computes(
    family: str, batch_size: int, make_model: Callable[..., Path], tokens: torch.Tensor
) -> None:
    folder = make_model(family)
    expected = hidden_states(load(folder), tokens)
    for layer in LayerStream(folder, tokens, Runtime("cpu", batch_size)):
        pairs = list(layer.run())
        before, after = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        torch.testing.assert_close(before, expected[layer.index], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(after, expected[layer.index + 1], rtol=1e-5, atol=1e-5)
    assert layer.index == len(expected) - 2


def test_streams_a_loaded_model_and_leaves_it_as_it_was(make_model: Callable[..., Path], tokens: torch.Tensor) -> None:
    folder = make_model("qwen3")
    model = load(folder)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert Ablation().layer_scores(LayerStream(model, tokens)) == Ablation().layer_scores(LayerStream(folder, tokens))
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert len(model.model.layers) == 4


def test_streams_layers_of_different_widths(
    make_model: Callable[..., Path], tokens: torch.Tensor, tmp_path: Path
) -> None:
    base = make_model("qwen2")
    plan = Plan(4, (LayerPlan(0, (0,), tuple(range(24))), LayerPlan(3, (1, 2, 3), (2, 5))))
    cut(base, plan, tmp_path / "cut")
    expected = hidden_states(load(tmp_path / "cut"), tokens)
    for layer in LayerStream(tmp_path / "cut", tokens):
        for _, after in layer.run():
            torch.testing.assert_close(after, expected[layer.index + 1], rtol=1e-5, atol=1e-5)


def test_changes_reach_the_next_layer(make_model: Callable[..., Path], tokens: torch.Tensor) -> None:
    folder = make_model("llama")
    model = load(folder)
    model.model.layers[0].mlp.down_proj.weight.data.zero_()
    expected = hidden_states(model, tokens)
    for layer in LayerStream(folder, tokens):
        list(layer.run())
        if layer.index == 0:
            layer.module.mlp.down_proj.weight.data.zero_()
            layer.changed()
        if layer.index == 1:
            torch.testing.assert_close(torch.cat(layer.inputs), expected[1], rtol=1e-5, atol=1e-5)


def test_input_norms(make_model: Callable[..., Path], tokens: torch.Tensor) -> None:
    folder = make_model("mistral")
    model = load(folder)
    seen: dict[str, torch.Tensor] = {}
    for name in LINEARS:
        module = model.model.layers[2].get_submodule(name)
        module.register_forward_pre_hook(lambda _m, args, name=name: seen.update({name: args[0].detach()}))
    model(input_ids=tokens, use_cache=False)
    for layer in LayerStream(folder, tokens, Runtime("cpu", 4)):
        if layer.index == 2:
            norms = input_norms(layer)
    assert set(norms) == set(LINEARS)
    for name, norm in norms.items():
        per_sample = seen[name].square().sum(dim=1)
        torch.testing.assert_close(norm, per_sample.mean(dim=0).sqrt(), rtol=1e-4, atol=1e-6)


def test_features_of_the_inputs_that_are_asked_for(make_model: Callable[..., Path], tokens: torch.Tensor) -> None:
    folder = make_model("qwen2")
    model = load(folder)
    seen: list[torch.Tensor] = []
    model.model.layers[1].mlp.down_proj.register_forward_pre_hook(lambda _m, args: seen.append(args[0].detach()))
    model(input_ids=tokens, use_cache=False)
    layer = list(gather("features", folder, tokens, Runtime("cpu", 4), linears=["mlp.down_proj"]))[1]
    assert set(layer.evidence) == {"mlp.down_proj"}
    evidence, inputs = layer.evidence["mlp.down_proj"], seen[0]
    norms = inputs.norm(dim=1)
    torch.testing.assert_close(evidence.mean_norm, norms.mean(dim=0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(evidence.input_norm, norms.square().mean(dim=0).sqrt(), rtol=1e-4, atol=1e-6)
    variance = inputs.flatten(0, 1).var(dim=0, correction=0)
    torch.testing.assert_close(evidence.variance, variance, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_an_error_of_a_block_weighs_what_it_is_in_the_stream_behind(
    factor: float, make_model: Callable[..., Path], tokens: torch.Tensor
) -> None:
    """Also where the block is multiplied by something before it is added, as Granite does."""
    folder = make_model("qwen3")
    layers = LayerStream(folder, tokens, Runtime("cpu", 4))
    expected = hidden_states(load(folder), tokens)
    for layer in layers:
        forward = layer.module.mlp.forward
        layer.module.mlp.forward = lambda states, forward=forward: factor * forward(states)
        with stream_weights(layer) as weights:
            pairs = list(layer.run())
        after = torch.cat([output for _, output in pairs])
        behind = after.square().sum(dim=-1).reciprocal().mean().item()
        assert weights["mlp.down_proj"] == pytest.approx(factor**2 * behind, rel=1e-4)
        if factor == 1.0:
            torch.testing.assert_close(after, expected[layer.index + 1], rtol=1e-4, atol=1e-5)
        layer.part = "attention"
        middle = torch.cat([between for _, between in layer.run()])
        behind = middle.square().sum(dim=-1).reciprocal().mean().item()
        assert weights["self_attn.o_proj"] == pytest.approx(behind, rel=1e-4)
    assert not layer.module._forward_hooks and not layer.module._forward_pre_hooks


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("batch_size", "checkpointing"), [(6, True), (4, True), (4, False)])
def test_gradients_are_of_the_mean_loss(
    family: str, batch_size: int, checkpointing: bool, make_model: Callable[..., Path], tokens: torch.Tensor
) -> None:
    """Those of one backward pass of the whole model, layer by layer from the last."""
    folder = make_model(family)
    model = load(folder)
    model(input_ids=tokens, labels=tokens).loss.backward()
    layers = list(gather("gradient", folder, tokens, Runtime("cpu", batch_size), checkpointing=checkpointing))
    assert [layer.index for layer in layers] == [3, 2, 1, 0]
    for layer in layers:
        module = model.model.layers[layer.index]
        for weight, evidence in layer.linears():
            expected = module.get_submodule(evidence.linear).weight
            assert torch.equal(weight, expected)
            torch.testing.assert_close(evidence.gradient, expected.grad, rtol=1e-3, atol=1e-7)


def test_curvature_is_the_mean_of_squared_gradients_of_samples(
    make_model: Callable[..., Path], tokens: torch.Tensor
) -> None:
    folder = make_model("llama")
    model = load(folder)
    weight = model.model.layers[1].self_attn.v_proj.weight
    squares = []
    for sample in tokens:
        model.zero_grad()
        model(input_ids=sample[None], labels=sample[None]).loss.backward()
        squares.append(weight.grad.square())
    layers = {layer.index: layer for layer in gather("curvature", folder, tokens)}
    evidence = layers[1].evidence["self_attn.v_proj"]
    torch.testing.assert_close(evidence.curvature, torch.stack(squares).mean(dim=0), rtol=1e-4, atol=1e-10)
    plain = {layer.index: layer for layer in gather("gradient", folder, tokens)}[1].evidence["self_attn.v_proj"]
    torch.testing.assert_close(evidence.gradient, plain.gradient, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("kind", ["gradient", "curvature"])
def test_gradients_beside_inputs(
    kind: Literal["gradient", "curvature"], make_model: Callable[..., Path], tokens: torch.Tensor
) -> None:
    """Gradients are of the dense model; inputs are of what the changed layers in front make."""
    folder = make_model("llama")
    alone = {layer.index: layer for layer in gather(kind, folder, tokens)}
    for both, inputs in zip(
        gather(kind, folder, tokens, inputs="input_norm"), gather("input_norm", folder, tokens), strict=True
    ):
        for (weight, evidence), (same, norms) in zip(both.linears(), inputs.linears(), strict=True):
            expected = alone[both.index].evidence[evidence.linear]
            assert torch.equal(getattr(evidence, kind), getattr(expected, kind))
            assert torch.equal(evidence.input_norm, norms.input_norm)
            assert evidence.samples == expected.samples == len(tokens)
            for each in (weight, same):
                each[:, ::2] = 0
        both.changed()
        inputs.changed()


@pytest.mark.parametrize("family", FAMILIES)
def test_ablation_is_the_loss_with_a_layer_bypassed(
    family: str, make_model: Callable[..., Path], tokens: torch.Tensor
) -> None:
    """Against the whole model run once for each layer, with fewer layer evaluations."""
    folder = make_model(family)

    def loss(without: int | None) -> float:
        model = load(folder)
        if without is not None:
            model.model.layers[without].forward = lambda hidden_states, **_: hidden_states
        with torch.no_grad():
            return model(input_ids=tokens, labels=tokens, use_cache=False).loss.item()

    stream = LayerStream(folder, tokens, Runtime("cpu", 4))
    scores = Ablation().layer_scores(stream)
    assert scores == pytest.approx([loss(index) - loss(None) for index in range(4)], rel=1e-3, abs=1e-5)
    assert stream.evaluations == 4 * 5 / 2 < Ablation.naive_evaluations(4) == 16


def test_reads_layers_without_data(make_model: Callable[..., Path]) -> None:
    folder = make_model("llama")
    layers = list(gather("none", folder, None))
    assert [layer.index for layer in layers] == list(range(read_architecture(folder).num_layers))
    assert [evidence.linear for _, evidence in layers[0].linears()] == list(LINEARS)


def test_memory_of_pruning_does_not_grow_with_depth(ready_python: Path, tmp_path: Path) -> None:
    """Twelve layers more, of 12 MiB each; what is held is one of them, however many there are."""
    benchmark = ROOT / "benchmarks" / "pruning.py"
    variants = ["--variants", "Magnitude_2of4", "ShortGPT_remove_2"]
    settings = ["--shape", "tiny", "--layers", "4", "16", "--samples", "4", "--length", "64", *variants]
    command = [ready_python, benchmark, *settings, "--folder", tmp_path, "--output", tmp_path / "out.json"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    results = read_json(tmp_path / "out.json")["results"]
    assert {(one["variant"], one["phase"]) for one in results} == {
        ("Pass", "pass"),
        ("Magnitude_2of4", "prune"),
        ("ShortGPT_remove_2", "score"),
        ("ShortGPT_remove_2", "prune"),
    }
    for phase in ("prune", "score"):
        for variant in {one["variant"] for one in results if one["phase"] == phase}:
            few, many = (one for one in results if (one["variant"], one["phase"]) == (variant, phase))
            more = many["model_bytes"] - few["model_bytes"]
            assert more > 120 * 2**20
            assert many["memory_bytes"] - few["memory_bytes"] < more / 3, (variant, phase, few, many)

"""Depth methods do what their formulas say, protected layers stay, and mergekit is told the same removal."""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import llm_pruner
from llm_pruner.analysis.structure import analyze_model
from llm_pruner.data.tokens import read_tokens
from llm_pruner.evaluation.perplexity import perplexity
from llm_pruner.exports.mergekit import mergekit_yaml, write_mergekit_yaml
from llm_pruner.exports.uniform import write_uniform
from llm_pruner.mechanisms.depth.check import check as check_depth
from llm_pruner.methods.ablation import Ablation
from llm_pruner.methods.avss import AVSS
from llm_pruner.methods.pruneme import PruneMe
from llm_pruner.methods.shortgpt import ShortGPT
from llm_pruner.methods.sleb import SLEB
from llm_pruner.methods.smart import Smart
from llm_pruner.models.architecture import read_architecture
from llm_pruner.models.checkpoint import load
from llm_pruner.models.doctor import examine
from llm_pruner.planning.plan import LayerPlan, Plan
from llm_pruner.scoring.stream import LayerStream
from llm_pruner.surgery.cut import cut
from llm_pruner.system.errors import CheckpointError, ConfigError, DataError, PlanError
from llm_pruner.system.files import read_json
from llm_pruner.system.runtime import Runtime
from llm_pruner.variants.grammar import resolve
from tests.tiny import REFERENCE
from tests.tiny.families import FAMILIES, in_turn
from tests.tiny.making import make
from tests.tiny.models import build_model, hidden_states

MakeModel = Callable[..., Path]


def without(model: Any, removed: Sequence[int]) -> Any:
    """A copy of a model whose layers are really gone."""
    smaller = copy.deepcopy(model)
    kept = [index for index in range(len(model.model.layers)) if index not in removed]
    smaller.model.layers = torch.nn.ModuleList(smaller.model.layers[index] for index in kept)
    for position, layer in enumerate(smaller.model.layers):
        layer.self_attn.layer_idx = position
    smaller.config.num_hidden_layers = len(kept)
    if getattr(smaller.config, "layer_types", None):
        smaller.config.layer_types = [smaller.config.layer_types[index] for index in kept]
    return smaller


def loss(model: Any, tokens: torch.Tensor) -> float:
    with torch.no_grad():
        return model(input_ids=tokens, labels=tokens, use_cache=False).loss.item()


def ranked(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries of layers that were ranked, in the order of removal."""
    return sorted((entry for entry in entries if "loss" in entry), key=lambda entry: entry["score"])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch_size", [6, 4])
def test_stream_over_some_layers(family: str, batch_size: int, make_model: MakeModel, tokens: torch.Tensor) -> None:
    folder = make_model(family)
    expected = hidden_states(without(load(folder), [1]), tokens)
    stream = LayerStream(folder, tokens, Runtime("cpu", batch_size), layers=[0, 2, 3])
    for position, layer in enumerate(stream):
        assert layer.index == (0, 2, 3)[position]
        torch.testing.assert_close(torch.cat(layer.inputs), expected[position], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(torch.cat(layer.outputs()), expected[position + 1], rtol=1e-5, atol=1e-5)
    assert position == 2
    assert stream.evaluations == 3
    for layer in stream.over([3]):
        layer.outputs()
    assert (stream.layers, stream.evaluations) == ((0, 2, 3), 4)


@pytest.mark.parametrize("family", FAMILIES)
def test_avss(family: str, make_model: MakeModel, tokens: torch.Tensor) -> None:
    folder = make_model(family)
    expected = []
    for output in hidden_states(load(folder), tokens)[1:]:
        variance = output.flatten(0, 1).double().mean(dim=0).var(correction=0).item()
        expected.append(variance / max((output.abs() < 1e-5).double().mean().item(), 1 / output.numel()))
    scores = AVSS().layer_scores(LayerStream(folder, tokens, Runtime("cpu", 4)))
    assert scores == pytest.approx([score / sum(expected) for score in expected], rel=1e-3)
    assert sum(scores) == pytest.approx(1)


def test_avss_counts_what_is_near_zero(tokens: torch.Tensor, tmp_path: Path) -> None:
    """A third of the hidden dimensions is never written to, so it stays zero."""
    model = build_model("llama", attention_bias=False, mlp_bias=False)
    model.model.embed_tokens.weight.data[:, :10] = 0
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data[:10] = 0
    for layer in model.model.layers[:2]:
        layer.mlp.down_proj.weight.data[:10] = 0
    model.save_pretrained(tmp_path)
    outputs = hidden_states(model, tokens)[1:]
    sparsities = [(output.abs() < 1e-5).double().mean().item() for output in outputs]
    assert sparsities[:2] == pytest.approx([10 / 32] * 2, abs=1e-3)
    variances = [output.flatten(0, 1).double().mean(dim=0).var(correction=0).item() for output in outputs]
    scores = AVSS().layer_scores(LayerStream(tmp_path, tokens))
    assert scores[0] / scores[1] == pytest.approx(variances[0] / variances[1] * sparsities[1] / sparsities[0], rel=1e-3)
    assert scores.index(min(scores)) in (0, 1)
    assert AVSS().select([{"index": i, "score": s} for i, s in enumerate([3.0, 1.0, 2.0, 1.0])], 2) == [3, 1]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch_size", [6, 4])
def test_pruneme(family: str, batch_size: int, make_model: MakeModel, tokens: torch.Tensor) -> None:
    folder = make_model(family)
    states = [state[:, -1].double() for state in hidden_states(load(folder), tokens)]

    def distance(first: int, n: int) -> float:
        cosine = torch.nn.functional.cosine_similarity(states[first], states[first + n], dim=-1)
        return (cosine.arccos() / math.pi).mean().item()

    stream = LayerStream(folder, tokens, Runtime("cpu", batch_size))
    entries = PruneMe().layer_entries(stream)
    assert stream.evaluations == 4
    for first, entry in enumerate(entries):
        assert entry["distances"] == pytest.approx([distance(first, n) for n in range(1, 5 - first)], rel=1e-4)
        assert entry["score"] == entry["distances"][0]
    for n in (1, 2, 3):
        first = min(range(5 - n), key=lambda first: distance(first, n))
        assert PruneMe().select(entries, n) == list(range(first, first + n))


def test_pruneme_of_a_layer_that_does_nothing(tokens: torch.Tensor, tmp_path: Path) -> None:
    """The cosine is 1, however it is rounded."""
    model = build_model("qwen3")
    model.model.layers[2].self_attn.o_proj.weight.data.zero_()
    model.model.layers[2].mlp.down_proj.weight.data.zero_()
    model.save_pretrained(tmp_path)
    entries = PruneMe().layer_entries(LayerStream(tmp_path, tokens))
    assert entries[2]["score"] == pytest.approx(0, abs=1e-6)
    assert PruneMe().select(entries, 1) == [2]


def test_pruneme_agrees_with_the_official_tool(reference: dict[str, Any], tmp_path: Path) -> None:
    """But for blocks that end with the last layer, which it takes after the final norm, and that begin with the first,
    which it leaves out."""
    official = reference["depth"]["pruneme"]
    heldout = read_tokens(REFERENCE / "heldout.safetensors")
    for n in (1, 2, 3):
        make(f"PruneMe_remove_{n}", {}, REFERENCE / "model", REFERENCE / "calibration.safetensors", tmp_path)
        layers = read_json(tmp_path / "scores.json")["layers"]
        distances = [layers[start]["distances"][n - 1] for start in range(1, 6 - n)]
        assert distances == pytest.approx(official[f"n{n}"]["average_distance"][:-1], abs=1e-5)
        removed = set(range(6)) - set(read_json(tmp_path / "plan.json")["kept_layers"])
        assert sorted(removed) == official[f"n{n}"]["removed_layers_0based"]
        found = perplexity(load(tmp_path / "model"), heldout, window=128).perplexity
        assert found == pytest.approx(official[f"n{n}"]["ppl_after"], rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_sleb_is_greedy(family: str, make_model: MakeModel, tokens: torch.Tensor) -> None:
    """Against models with the layers really removed, every candidate of every step."""
    folder = make_model(family)
    model = load(folder)
    order: list[int] = []
    losses = []
    for _ in range(3):
        candidates = {index: loss(without(model, [*order, index]), tokens) for index in range(4) if index not in order}
        order.append(min(candidates, key=candidates.__getitem__))
        losses.append(candidates[order[-1]])

    stream = LayerStream(folder, tokens, Runtime("cpu", 4))
    entries = SLEB(steps=3).layer_entries(stream)
    assert [entry["index"] for entry in entries] == [0, 1, 2, 3]
    found = ranked(entries)
    assert [entry["index"] for entry in found] == order
    assert [entry["score"] for entry in found] == [0, 1, 2]
    assert [entry["loss"] for entry in found] == pytest.approx(losses, rel=1e-5)
    for count in (1, 2, 3):
        assert SLEB(steps=3).select(entries, count) == order[:count]


def test_evaluations_are_counted(make_model: MakeModel, tokens: torch.Tensor, token_file: Path, tmp_path: Path) -> None:
    counts = {}
    for name, options in (("Ablation", {}), ("SLEB", {"steps": 3}), ("Smart", {"steps": 2}), ("PruneMe", {})):
        make(f"{name}_remove_1", options, make_model("llama"), token_file, tmp_path / name)
        counts[name] = read_json(tmp_path / name / "scores.json")["layer_evaluations"]
    assert counts == {
        "Ablation": {"run": 10, "naive": 16},
        # 4·5/2 + 3·4/2 + 2·3/2; and the whole model, 4 candidates of 3 layers, 3 of 2, 2 of 1
        "SLEB": {"run": 19, "naive": 4 + 12 + 6 + 2},
        "Smart": {"run": 16, "naive": 4 + 12 + 6},
        "PruneMe": {"run": 4, "naive": 4},
    }
    assert SLEB(steps=1).naive_evaluations(4) == Ablation.naive_evaluations(4)


def test_steps(make_model: MakeModel, tokens: torch.Tensor) -> None:
    assert [SLEB().ranked(layers) for layers in (1, 2, 4, 5)] == [0, 1, 2, 3]
    assert SLEB(steps=9).ranked(4) == 3
    entries = SLEB().layer_entries(LayerStream(make_model("llama"), tokens))
    assert sorted(entry["score"] for entry in entries) == [0, 1, 2, 2]
    assert len(ranked(entries)) == 2
    longer = SLEB(steps=3).layer_entries(LayerStream(make_model("llama"), tokens))
    assert [entry["index"] for entry in ranked(longer)][:2] == [entry["index"] for entry in ranked(entries)]


@pytest.mark.parametrize(("tolerance", "family"), in_turn([0.01, 0.0, 0.05, 10.0]))
def test_smart_tries_and_restores(family: str, tolerance: float, make_model: MakeModel, tokens: torch.Tensor) -> None:
    """Against models with the layers really removed: scored on every other sample, checked on those between."""
    folder = make_model(family)
    model = load(folder)
    scoring, checking = tokens[::2], tokens[1::2]
    gone: list[int] = []
    expected = []
    for _ in range(3):
        before = math.exp(loss(without(model, gone), checking))
        left = [index for index in range(4) if index not in gone]
        scores = {index: loss(without(model, [*gone, index]), scoring) for index in left}
        restored: list[int] = []
        checked = {}
        for index in sorted(left, key=scores.__getitem__):
            checked[index] = math.exp(loss(without(model, [*gone, index]), checking))
            if checked[index] / before - 1 <= tolerance:
                within, chosen = True, index
                break
            restored.append(index)
        else:
            within, chosen = False, min(checked, key=checked.__getitem__)
            restored.remove(chosen)
        gone.append(chosen)
        expected.append((chosen, within, restored))

    entries = ranked(Smart(steps=3, tolerance=tolerance).layer_entries(LayerStream(folder, tokens, Runtime("cpu", 4))))
    assert [(e["index"], e["within_tolerance"], e["restored"]) for e in entries] == expected
    for position, entry in enumerate(entries):
        assert entry["loss"] == pytest.approx(loss(without(model, gone[: position + 1]), checking), rel=1e-5)


def choose(tolerance: float, score: Sequence[float], check: Sequence[float]) -> dict[str, Any]:
    """Smart's choice among layers 3, 5, 8 by their losses on the two halves; 1.0 before."""
    pairs = [list(pair) for pair in zip(score, check, strict=True)]
    return Smart(tolerance=tolerance).choose([3, 5, 8], [1.0, 1.0], pairs)


def test_smart_choices() -> None:
    accepted = choose(0.05, [1.1, 1.01, 1.2], [1.02, 1.3, 1.0])
    assert accepted == {"index": 3, "loss": 1.02, "within_tolerance": True, "restored": [5]}
    assert choose(1.0, [1.1, 1.01, 1.2], [1.02, 1.3, 1.0])["index"] == 5
    forced = choose(0.0, [1.1, 1.01, 1.2], [1.2, 1.3, 1.1])
    assert forced == {"index": 8, "loss": 1.1, "within_tolerance": False, "restored": [5, 3]}
    assert choose(0.0, [0.9, 0.9, 0.9], [1.0, 1.0, 1.0])["index"] == 8


def test_smart_notes_steps_beyond_the_tolerance(make_model: MakeModel, token_file: Path, tmp_path: Path) -> None:
    """Only the variants that need such a step, and the asked count is reached."""
    options = {"steps": 3, "tolerance": 0.05}
    forced = {}
    for count in (1, 2, 3):
        record = make(f"Smart_remove_{count}", options, make_model("llama"), token_file, tmp_path / str(count))
        entries = ranked(read_json(tmp_path / str(count) / "scores.json")["layers"])
        assert record.reached.amount == count
        forced[count] = sorted(entry["index"] for entry in entries[:count] if not entry["within_tolerance"])
        names = ", ".join(map(str, forced[count]))
        expected = (
            f"layer{'s' * (len(forced[count]) > 1)} {names} removed although perplexity rose by more than 5.00%: "
            "no layer was within the tolerance"
        )
        assert list(record.notes) == ([expected] if forced[count] else [])
    assert Smart(tolerance=0.05).notes([{"index": 1, "within_tolerance": False}])
    assert not Smart(tolerance=0.05).notes([{"index": 1, "within_tolerance": True}])


def test_smart_needs_samples_to_check_on(make_model: MakeModel, tokens: torch.Tensor) -> None:
    with pytest.raises(DataError, match="Smart needs at least two calibration samples"):
        Smart().layer_scores(LayerStream(make_model("llama"), tokens[:1]))


@pytest.mark.parametrize("method", [Ablation(), SLEB(), Smart()])
def test_loss_that_is_not_finite(method: Any, tokens: torch.Tensor, tmp_path: Path) -> None:
    """Also where it is so with one layer present only: bypassing that one must not look like the best choice."""
    model = build_model("llama")
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="not finite"):
        method.layer_scores(LayerStream(tmp_path, tokens))


@pytest.mark.parametrize("method", ["ShortGPT", "PruneMe", "SLEB", "Smart"])
def test_amounts_are_nested(method: str, make_model: MakeModel, token_file: Path, tmp_path: Path) -> None:
    """One file of scores serves every amount; but for PruneMe, whose blocks may lie apart, fewer are among more."""
    removed = []
    options = {"steps": 3} if method in ("SLEB", "Smart") else {}
    for count in (1, 2, 3):
        make(f"{method}_remove_{count}", options, make_model("qwen2"), token_file, tmp_path / str(count))
        removed.append(set(Plan.read(tmp_path / str(count) / "plan.json").removed_layers))
        score = resolve(f"{method}_remove_{count}", options).score
        assert score and score.name == method + ("-steps=3" if options else "")
    assert [len(each) for each in removed] == [1, 2, 3]
    if method == "PruneMe":
        assert all(max(each) - min(each) == len(each) - 1 for each in removed)
    else:
        assert removed[0] < removed[1] < removed[2]


@pytest.mark.parametrize("method", ["ShortGPT", "Activation", "AVSS", "PruneMe"])
@pytest.mark.parametrize(
    "options", [{"protect_first": 2}, {"protect_last": 2}, {"protect_first": 1, "protect_last": 1}], ids=str
)
def test_protected_layers_stay(
    method: str, options: dict[str, int], make_model: MakeModel, token_file: Path, tmp_path: Path
) -> None:
    make(f"{method}_remove_2", options, make_model("llama"), token_file, tmp_path)
    first, last = options.get("protect_first", 0), options.get("protect_last", 0)
    assert Plan.read(tmp_path / "plan.json").removed_layers == tuple(range(first, 4 - last))


def test_an_order_passes_over_protected_layers() -> None:
    entries = [
        {"index": 0, "score": 0.0, "loss": 1.0},
        {"index": 1, "score": 3.0},
        {"index": 2, "score": 2.0, "loss": 1.0},
        {"index": 3, "score": 1.0, "loss": 1.0},
        {"index": 4, "score": 3.0},
    ]
    assert SLEB().select(entries, 2) == [0, 3]
    assert SLEB().select(entries[1:], 2) == [3, 2]
    with pytest.raises(PlanError, match=r"SLEB ranked 2 of the removable layers, but 3 .* option steps"):
        SLEB().select(entries[1:], 3)


def test_pruneme_takes_the_best_block_that_may_go() -> None:
    distances = [[0.1, 0.1, 0.1, 0.1], [0.3, 0.5, 0.6], [0.2, 0.4], [0.3]]
    layers = [{"index": index, "score": each[0], "distances": each} for index, each in enumerate(distances)]
    assert PruneMe().select(layers, 1) == [0]
    assert PruneMe().select(layers[1:], 1) == [2]
    assert PruneMe().select(layers[1:], 2) == [2, 3]
    assert PruneMe().select(layers[1:3], 2) == [1, 2]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("PruneMe_remove_4", {}, "the model has 4 layers, at most 3 can be removed"),
        (
            "ShortGPT_remove_3",
            {"protect_first": 1, "protect_last": 1},
            "ShortGPT_remove_3: the model has 4 layers, 2 of them protected by protect_first and protect_last, "
            "at most 2 can be removed",
        ),
        ("AVSS_remove_1", {"protect_last": 9}, "4 of them protected by protect_first and protect_last, at most 0"),
        ("SLEB_remove_3", {}, "SLEB ranks 2 of the model's 4 layers; set the option steps to 3"),
        ("Smart_remove_2", {"steps": 1}, "Smart ranks 1 of the model's 4 layers; set the option steps to 2"),
        ("SLEB_remove_4", {"steps": 4}, "the model has 4 layers, at most 3 can be removed"),
    ],
)
def test_impossible_counts(
    name: str, options: dict[str, Any], message: str, make_model: MakeModel, token_file: Path, tmp_path: Path
) -> None:
    """Told before anything is scored, and again by the pruning itself."""
    with pytest.raises(PlanError) as found:
        check_depth(resolve(name, options), read_architecture(make_model("llama")))
    assert message.removeprefix(f"{name}: ") in str(found.value)
    with pytest.raises(PlanError) as found:
        make(name, options, make_model("llama"), token_file, tmp_path)
    assert message in str(found.value)
    assert not (tmp_path / "model").exists()


def test_possible_counts(make_model: MakeModel) -> None:
    for name, options in (
        ("ShortGPT_remove_3", {}),
        ("ShortGPT_remove_2", {"protect_first": 1, "protect_last": 1}),
        ("SLEB_remove_3", {"steps": 3}),
    ):
        check_depth(resolve(name, options), read_architecture(make_model("llama")))


def as_mergekit_reads(text: str, model: Any) -> Any:
    """What its slices leave of a model, done by hand."""
    recipe = yaml.safe_load(text)
    assert recipe["merge_method"] == "passthrough"
    kept: list[int] = []
    for part in recipe["slices"]:
        (source,) = part["sources"]
        kept += range(*source["layer_range"])
    return without(model, sorted(set(range(len(model.model.layers))) - set(kept)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kept", [(0, 1, 2, 3), (0, 3), (1, 2), (0, 2), (3,)])
def test_mergekit_yaml(
    family: str, kept: tuple[int, ...], make_model: MakeModel, tokens: torch.Tensor, tmp_path: Path
) -> None:
    base = make_model(family)
    architecture = read_architecture(base)
    plan = Plan.keep_layers(architecture, kept)
    write_mergekit_yaml(plan, tmp_path / "merge.yaml", 'some "quoted": model', "bfloat16")
    text = (tmp_path / "merge.yaml").read_text()
    assert text == mergekit_yaml(plan, 'some "quoted": model', "bfloat16", architecture=architecture)
    recipe = yaml.safe_load(text)
    assert recipe["dtype"] == "bfloat16"
    assert {part["sources"][0]["model"] for part in recipe["slices"]} == {'some "quoted": model'}
    cut(base, plan, tmp_path / "cut")
    with torch.no_grad():
        theirs = as_mergekit_reads(text, load(base))(input_ids=tokens, use_cache=False).logits
        ours = llm_pruner.load(tmp_path / "cut")(input_ids=tokens, use_cache=False).logits
    assert torch.equal(theirs, ours)


def test_mergekit_slices_are_as_few_as_can_be() -> None:
    plan = Plan(9, tuple(LayerPlan(index, (0, 1), (0, 1, 2)) for index in (0, 1, 2, 5, 7, 8)))
    slices = yaml.safe_load(mergekit_yaml(plan, "base"))["slices"]
    assert [part["sources"][0]["layer_range"] for part in slices] == [[0, 3], [5, 6], [7, 9]]


def test_mergekit_cannot_cut_widths(make_model: MakeModel) -> None:
    architecture = read_architecture(make_model("llama"))
    everything = Plan.keep_everything(architecture).layers
    for layers in (
        (LayerPlan(0, (0, 1), tuple(range(24))), *everything[1:]),
        tuple(LayerPlan(layer.index, (1, 2), layer.channels) for layer in everything),
        tuple(LayerPlan(layer.index, layer.groups, tuple(range(0, 24, 2))) for layer in everything[1:]),
    ):
        with pytest.raises(PlanError, match="cuts layers in width"):
            mergekit_yaml(Plan(4, layers), "base")
    # kept units are the first ones everywhere: only the base's own widths tell
    prefix = Plan(4, tuple(LayerPlan(layer.index, (0, 1), layer.channels) for layer in everything))
    with pytest.raises(PlanError, match="cuts layers in width"):
        mergekit_yaml(prefix, "base", architecture=architecture)
    with pytest.raises(PlanError, match="this plan is for 5 layers"):
        mergekit_yaml(Plan(5, everything), "base", architecture=architecture)


def test_mergekit_makes_the_same_model(make_model: MakeModel, tokens: torch.Tensor, tmp_path: Path) -> None:
    """Of families without ``layer_types`` and models without biases; see ``mergekit_yaml``."""
    base = make_model("llama", attention_bias=False, mlp_bias=False)
    plan = Plan.keep_layers(read_architecture(base), (0, 3))
    cut(base, plan, tmp_path / "cut")
    write_mergekit_yaml(plan, tmp_path / "merge.yaml", str(base))
    subprocess.run(
        [
            Path(sys.executable).with_name("mergekit-yaml"),
            tmp_path / "merge.yaml",
            tmp_path / "merged",
            "--no-copy-tokenizer",
        ],
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")},
    )
    with torch.no_grad():
        theirs, ours = (
            llm_pruner.load(tmp_path / folder)(input_ids=tokens, use_cache=False).logits for folder in ("merged", "cut")
        )
    assert torch.equal(theirs, ours)


# --- attention and MLP blocks alone ----------------------------------------------------------------------------


def silence(model: Any, block: str, *layers: int) -> Any:
    """A copy of a model in which these layers' blocks add nothing to the residual stream."""
    silent = copy.deepcopy(model)
    for index in layers:
        layer = silent.model.layers[index]
        for parameter in (layer.self_attn.o_proj if block == "attention" else layer.mlp.down_proj).parameters():
            parameter.data.zero_()
    return silent


def around_blocks(model: Any, block: str, tokens: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What enters each layer's block and what leaves it."""
    between: list[torch.Tensor] = []
    for layer in model.model.layers:
        layer.post_attention_layernorm.register_forward_pre_hook(lambda _, states: between.append(states[0]))
    states = hidden_states(model, tokens)
    ends = zip(states, between, strict=False) if block == "attention" else zip(between, states[1:], strict=True)
    return list(ends)


BLOCKS = pytest.mark.parametrize("block", ["attention", "mlp"])


@BLOCKS
@pytest.mark.parametrize("family", FAMILIES)
def test_block_influence_of_blocks(family: str, block: str, make_model: MakeModel, tokens: torch.Tensor) -> None:
    folder = make_model(family)
    expected = [
        1 - torch.nn.functional.cosine_similarity(before, after, dim=-1).mean().item()
        for before, after in around_blocks(load(folder), block, tokens)
    ]
    stream = LayerStream(folder, tokens, Runtime("cpu", 4), part=block)
    assert ShortGPT().layer_scores(stream) == pytest.approx(expected, rel=1e-4)
    assert stream.evaluations == 4


@BLOCKS
@pytest.mark.parametrize("family", FAMILIES)
def test_ablation_of_blocks(family: str, block: str, make_model: MakeModel, tokens: torch.Tensor) -> None:
    folder = make_model(family)
    model = load(folder)
    expected = [loss(silence(model, block, index), tokens) - loss(model, tokens) for index in range(4)]
    scores = Ablation().layer_scores(LayerStream(folder, tokens, Runtime("cpu", 4), part=block))
    assert scores == pytest.approx(expected, abs=2e-6)


@BLOCKS
def test_removal_of_blocks_one_after_the_other(block: str, make_model: MakeModel, tokens: torch.Tensor) -> None:
    """Layers whose block is gone still do what they otherwise do."""
    folder = make_model("qwen2")
    model, gone = load(folder), []
    entries = ranked(SLEB(steps=3).layer_entries(LayerStream(folder, tokens, Runtime("cpu", 4), part=block)))
    for entry in entries:
        losses = {index: loss(silence(model, block, *gone, index), tokens) for index in range(4) if index not in gone}
        best = min(losses, key=losses.__getitem__)
        assert entry["index"] == best
        assert entry["loss"] == pytest.approx(losses[best], abs=1e-5)
        gone.append(best)


@BLOCKS
def test_stream_without_some_blocks(block: str, make_model: MakeModel, tokens: torch.Tensor) -> None:
    folder = make_model("qwen2")
    expected = around_blocks(silence(load(folder), block, 0, 3), block, tokens)
    seen = []
    for layer in LayerStream(folder, tokens, Runtime("cpu", 4), part=block).over([1, 2]):
        before, after = (torch.cat(batches) for batches in zip(*layer.run(), strict=True))
        torch.testing.assert_close(before, expected[layer.index][0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(after, expected[layer.index][1], rtol=1e-5, atol=1e-5)
        seen.append(layer.index)
    assert seen == [1, 2]


@BLOCKS
def test_models_without_blocks_are_models_like_others(
    block: str, make_model: MakeModel, token_file: Path, tokens: torch.Tensor, tmp_path: Path
) -> None:
    """They are analysed, scored, pruned again, and checked like any model."""
    base = make_model("llama")
    make("ShortGPT_blocks_remove_2", {"drop": block}, base, token_file, tmp_path / "first")
    first = tmp_path / "first" / "model"
    plan = Plan.read(tmp_path / "first" / "plan.json")
    for layer in analyze_model(first, "first", plan).layers:
        gone = layer.layer_idx in plan.dropped_blocks(block)
        assert (getattr(layer, block).parameters == 0) is gone
        assert getattr(layer, "mlp" if block == "attention" else "attention").parameters > 0
    assert all(check.outcome == "ok" or check.name == "tokenizer" for check in examine(first, device="cpu"))

    record = make("Ablation_remove_1", {}, first, token_file, tmp_path / "second")
    assert record.reached.amount == 1
    assert [layer.dropped for layer in Plan.read(tmp_path / "second" / "plan.json").layers].count((block,)) >= 1
    make("Wanda_2of4", {}, first, token_file, tmp_path / "sparse")
    for folder in (tmp_path / "second" / "model", tmp_path / "sparse" / "model"):
        model = load(folder)
        plain, cached = (model.generate(tokens[:2], max_new_tokens=8, use_cache=use) for use in (False, True))
        assert torch.equal(plain, cached)


def test_what_cannot_be_done_with_blocks(make_model: MakeModel, token_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="drop: PruneMe can score only layer, not 'attention'"):
        resolve("PruneMe_remove_1", {"drop": "attention"})
    with pytest.raises(ConfigError, match="drop: Input should be 'layer', 'attention' or 'mlp', not 'head'"):
        resolve("ShortGPT_remove_1", {"drop": "head"})
    assert resolve("SLEB_remove_2", {"drop": "mlp", "steps": 3}).score.name == "SLEB-drop=mlp-steps=3"
    make("ShortGPT_remove_1", {"drop": "mlp"}, make_model("mistral"), token_file, tmp_path)
    with pytest.raises(PlanError, match="drops blocks"):
        mergekit_yaml(Plan.read(tmp_path / "plan.json"), "base")
    with pytest.raises(PlanError, match="lack a block"):
        write_uniform(tmp_path / "model", tmp_path / "uniform")
    with pytest.raises(PlanError, match="lack a block"):
        make("Magnitude_2000", {}, tmp_path / "model", token_file, tmp_path / "again")

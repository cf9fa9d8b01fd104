"""The objects and functions for use from Python do what the definitions say, and nothing but what a run does."""

from __future__ import annotations

import copy
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import llm_pruner
from llm_pruner import (
    CheckpointError,
    DataError,
    LayerImportanceAnalyzer,
    PlanError,
    PrunerError,
    UnbalancedStructuredPruningCalculator,
    compute_gqa_group_importance,
    get_examples,
    get_examples_from_text,
    prune_attention_by_gqa_groups,
    select_gqa_groups_to_prune,
)
from llm_pruner.data.sampling import SampleSpec, draw_samples
from llm_pruner.data.tokens import read_tokens, write_tokens
from llm_pruner.mechanisms.width.score import score
from llm_pruner.methods.gqa import GQA
from llm_pruner.models.checkpoint import load
from llm_pruner.system.runtime import Runtime
from tests.tiny.families import FAMILIES, VOCABULARY
from tests.tiny.models import build_model
from tests.tiny.text import WORDS

ODD_IMPORTANCE = [1.0, 5.0, -2.0, 0.5]


def importances(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


def calculator(values: list[float]) -> UnbalancedStructuredPruningCalculator:
    return UnbalancedStructuredPruningCalculator(importances(values), len(values))


# names and imports


def test_all_names_are_reachable_and_imports_stay_light() -> None:
    assert all(getattr(llm_pruner, name).__name__ == name for name in llm_pruner.__all__)
    statement = (
        "import sys, llm_pruner; assert not {'torch', 'pydantic'} & set(sys.modules); "
        "import llm_pruner.objects.layer_importance, llm_pruner.objects.gqa_groups, llm_pruner.objects.examples; "
        "assert not {'torch', 'transformers', 'matplotlib', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", statement], check=True, cwd=Path(llm_pruner.__file__).parents[1])


# importance of layers


def bypassed(model: Any, tokens: torch.Tensor, layer: int | None) -> float:
    """Mean next-token loss of the whole model, a layer's output being its input."""
    model = copy.deepcopy(model)
    if layer is not None:
        model.model.layers[layer].forward = lambda hidden_states, **_: hidden_states
    with torch.no_grad():
        return model(input_ids=tokens, labels=tokens, use_cache=False).loss.item()


@pytest.mark.parametrize("loaded", [True, False])
def test_importance_by_removal(
    loaded: bool, make_model: Callable[..., Path], tokens: torch.Tensor, tokenizer: Any
) -> None:
    folder = make_model("qwen2")
    model = load(folder)
    analyzer = LayerImportanceAnalyzer(model if loaded else folder, tokenizer, batch_size=4)
    importance = analyzer.measure_layer_importance_by_removal(tokens)
    whole = bypassed(model, tokens, None)
    expected = {layer: bypassed(model, tokens, layer) - whole for layer in range(4)}
    assert importance == pytest.approx(expected, rel=1e-3, abs=1e-5)
    first = analyzer.measure_layer_importance_by_removal(tokens, num_layers=2)
    assert first == {layer: importance[layer] for layer in (0, 1)}


def test_importance_by_activation_of_texts(make_model: Callable[..., Path], tokenizer: Any) -> None:
    """Texts are joined, cut to seq_len and measured; norms are of what leaves each layer, before the final norm."""
    texts = ["the of a w1 w2 is", "to and w3 in that w4 w5", "w6 w7 w8 w9"]
    model = load(make_model("llama"))
    importance = LayerImportanceAnalyzer(model, tokenizer, seq_len=5).measure_layer_importance_by_activation(texts)
    ids = torch.tensor([3 + WORDS.index(word) for word in " ".join(texts).split()][:15]).view(3, 5)
    norms: dict[int, float] = {}
    for index, layer in enumerate(model.model.layers):
        layer.register_forward_hook(
            lambda _m, _i, output, index=index: norms.update({index: output.norm(dim=-1).mean().item()})
        )
    with torch.no_grad():
        model(input_ids=ids, use_cache=False)
    assert importance == pytest.approx(norms, rel=1e-4)


@pytest.mark.parametrize("num_layers", [0, 5, -1])
def test_number_of_layers_that_a_model_has_not(num_layers: int, make_model: Callable[..., Path]) -> None:
    analyzer = LayerImportanceAnalyzer(make_model("llama"), None)
    with pytest.raises(PlanError, match=f"num_layers must be 1 … 4, .* not {num_layers}"):
        analyzer.measure_layer_importance_by_removal(["text"], num_layers=num_layers)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (torch.zeros(2, 8), "must be int64 .* not torch.float32"),
        (torch.zeros(8, dtype=torch.int64), r"int64 \[samples, length\]"),
        (torch.zeros(2, 1, dtype=torch.int64), "at least one sample of two tokens"),
        (torch.full((2, 8), VOCABULARY), "token ids 97 … 97 do not fit a vocabulary of 97"),
        (["the of a"], "too short for one sample of 128 tokens"),
        ([], "too short for one sample"),
    ],
)
def test_samples_that_cannot_be_measured(
    texts: Any, message: str, make_model: Callable[..., Path], tokenizer: Any
) -> None:
    with pytest.raises(DataError, match=message):
        LayerImportanceAnalyzer(make_model("llama"), tokenizer).measure_layer_importance_by_activation(texts)


def test_models_that_cannot_be_measured(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    with pytest.raises(CheckpointError, match=r"no config\.json"):
        LayerImportanceAnalyzer(tmp_path, None)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_positions=8, n_embd=4, n_layer=1, n_head=1))
    with pytest.raises(CheckpointError, match="the loaded model: model_type 'gpt2'"):
        LayerImportanceAnalyzer(model, None)


# rates


FINITE = st.floats(-100, 100, width=32, allow_subnormal=False)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(FINITE, min_size=1, max_size=12),
    strategy=st.sampled_from(["uniform", "inverse", "proportional"]),
    alpha=st.floats(0.1, 4),
    bounds=st.tuples(st.floats(0, 0.99), st.floats(0.01, 1)).filter(lambda pair: pair[0] <= pair[1]),
    position=st.floats(0, 1),
    log=st.booleans(),
)
def test_rates_average_to_the_target_within_their_bounds(
    values: list[float], strategy: str, alpha: float, bounds: tuple[float, float], position: float, log: bool
) -> None:
    low, high = bounds
    target = min(low + position * (high - low), high)
    rates = calculator(values).compute_layer_pruning_rates(target, strategy, alpha, low, high, log)
    assert list(rates) == list(range(len(values)))
    assert statistics.fmean(rates.values()) == pytest.approx(target, abs=1e-9)
    assert all(low <= rate <= high for rate in rates.values())
    sign = {"uniform": 0, "inverse": -1, "proportional": 1}[strategy]
    by_importance = [rates[index] for index in sorted(rates, key=lambda index: sign * values[index])]
    assert all(after - before >= -1e-12 for before, after in itertools.pairwise(by_importance))
    if not sign:
        assert len(set(rates.values())) == 1


def test_rates_by_hand() -> None:
    # normalised importance 0, ½, 1 leaves weights 1, ½, 0
    calculated = calculator([-1.0, 0.0, 1.0]).compute_layer_pruning_rates(0.2, use_log_transform=False)
    assert calculated == pytest.approx({0: 0.4, 1: 0.2, 2: 0.0}, abs=1e-5)
    squared = calculator([-1.0, 0.0, 1.0]).compute_layer_pruning_rates(
        0.2, "proportional", 2.0, use_log_transform=False
    )
    assert squared == pytest.approx({0: 0.0, 1: 0.12, 2: 0.48}, abs=1e-5)
    clipped = calculator([-1.0, 0.0, 1.0]).compute_layer_pruning_rates(0.2, min_rate=0.1, max_rate=0.3)
    assert clipped == pytest.approx({0: 0.3, 1: 0.2, 2: 0.1})
    assert calculator([2.0, 2.0]).compute_layer_pruning_rates(0.5) == {0: 0.5, 1: 0.5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_overall_rate": 0.9}, r"target_overall_rate 0\.9 is not between min_rate 0 and max_rate 0\.8"),
        ({"min_rate": 0.3}, r"0\.2 is not between min_rate 0\.3 and max_rate 0\.8, the bounds of every layer's rate"),
        ({"target_overall_rate": float("nan")}, "nan is not between"),
        ({"min_rate": 0.9}, r"min_rate 0\.9 is above max_rate 0\.8"),
        ({"max_rate": 1.5}, "max_rate: .* less than or equal to 1, not 1.5"),
        ({"alpha": 0.0}, "alpha: .* greater than 0"),
        ({"strategy": "invers"}, "unknown strategy 'invers'; did you mean 'inverse'"),
        ({"strategy": "global"}, "unknown strategy 'global'; known: inverse, proportional, uniform"),
    ],
)
def test_impossible_rates(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        calculator(ODD_IMPORTANCE).compute_layer_pruning_rates(**{"target_overall_rate": 0.2, **options})


@pytest.mark.parametrize(
    ("importance", "num_layers", "message"),
    [
        ({0: 1.0, 2: 1.0}, 3, r"needs the importance of layers 0 … 2; missing: \[1\], unknown: none"),
        ({0: 1.0, 1: 1.0}, 1, r"missing: none, unknown: \[1\]"),
        ({"0": 1.0}, 1, r"missing: \[0\], unknown: \['0'\]"),
        ({}, 0, "a model with 0 layers"),
        ({0: float("inf")}, 1, "importance of layer 0 is not finite: inf"),
    ],
)
def test_importance_that_does_not_fit(importance: Mapping, num_layers: int, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        UnbalancedStructuredPruningCalculator(importance, num_layers)


def test_statistics_of_rates() -> None:
    assert calculator([0.0, 0.0]).verify_average_pruning_rate({0: 0.1, 1: 0.3}) == pytest.approx(
        {
            "average_pruning_rate": 0.2,
            "std_pruning_rate": 0.1,
            "min_pruning_rate": 0.1,
            "max_pruning_rate": 0.3,
            "rate_range": 0.2,
        }
    )
    with pytest.raises(PlanError, match=r"needs the rate of layers 0 … 1; missing: \[1\]"):
        calculator([0.0, 0.0]).verify_average_pruning_rate({0: 0.1})


def test_rates_survive_a_file(tmp_path: Path) -> None:
    own = calculator(ODD_IMPORTANCE)
    rates = own.compute_layer_pruning_rates(0.3)
    own.save_pruning_rates(rates, tmp_path / "new" / "rates.json")
    assert UnbalancedStructuredPruningCalculator.load_pruning_rates(tmp_path / "new" / "rates.json") == rates
    content = json.loads((tmp_path / "new" / "rates.json").read_text())
    assert content["layer_importance"] == {str(layer): value for layer, value in enumerate(ODD_IMPORTANCE)}
    assert content["statistics"] == own.verify_average_pruning_rate(rates)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"layer_pruning_rates": {"0": 0.1', "not valid JSON"),
        ("[0.1, 0.2]", "not a file of pruning rates .*dictionary"),
        ('{"rates": {"0": 0.1}}', "layer_pruning_rates: Field required"),
        ('{"layer_pruning_rates": {}}', "not a file of pruning rates"),
        ('{"layer_pruning_rates": {"first": 0.1}}', "layer_pruning_rates: first"),
        ('{"layer_pruning_rates": {"0": "0.1"}}', "layer_pruning_rates: 0: .* valid number"),
        ('{"layer_pruning_rates": {"0": 1.5}}', "layer_pruning_rates: 0: .* less than or equal to 1"),
        ('{"layer_pruning_rates": {"0": NaN}}', "layer_pruning_rates: 0"),
        ('{"layer_pruning_rates": {"0": 0.1, "2": 0.1}}', r"layers 0 … 1, not \[0, 2\]"),
    ],
)
def test_damaged_files_of_rates(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rates.json").write_text(content)
    with pytest.raises(DataError, match=rf"rates\.json: .*{message}"):
        UnbalancedStructuredPruningCalculator.load_pruning_rates(tmp_path / "rates.json")
    with pytest.raises(DataError, match="no such file"):
        UnbalancedStructuredPruningCalculator.load_pruning_rates(tmp_path / "other.json")


def test_figure_is_a_png(tmp_path: Path) -> None:
    own = calculator(ODD_IMPORTANCE)
    for name in ("rates.png", "rates"):
        own.visualize_pruning_strategy(own.compute_layer_pruning_rates(0.3), tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG\r\n")
    assert "matplotlib.pyplot" not in sys.modules


# key-value groups


GROUPINGS = [
    ("llama", {"num_key_value_heads": 1}),
    ("llama", {}),  # biases on all four projections
    ("mistral", {"num_key_value_heads": 2}),
    ("qwen2", {}),  # biases on q, k and v
    ("qwen3", {"num_key_value_heads": 8}),  # q/k norms, a group for every head
]
by_grouping = pytest.mark.parametrize(("family", "overrides"), GROUPINGS)


@by_grouping
def test_group_importance_is_taylor_by_head(
    family: str, overrides: dict[str, Any], make_model: Callable[..., Path], tokens: torch.Tensor
) -> None:
    """Against a loop over heads, and equal to the scores that width pruning would use."""
    folder = make_model(family, **overrides)
    model = load(folder)
    model(input_ids=tokens, labels=tokens).loss.backward()
    layer = model.model.layers[2]
    attention, head_dim = layer.self_attn, layer.self_attn.head_dim
    groups = model.config.num_key_value_heads
    ratio = model.config.num_attention_heads // groups

    def taylor(name: str) -> torch.Tensor:
        weight = getattr(attention, name).weight
        return (weight * weight.grad).abs().detach()

    def head(index: int) -> slice:
        return slice(index * head_dim, (index + 1) * head_dim)

    expected = []
    for group in range(groups):
        total = taylor("k_proj")[head(group)].sum() + taylor("v_proj")[head(group)].sum()
        for query in range(group * ratio, (group + 1) * ratio):
            total += taylor("q_proj")[head(query)].sum() + taylor("o_proj")[:, head(query)].sum()
        expected.append(total)
    importance = compute_gqa_group_importance(layer)
    assert importance.dtype == torch.float32 and importance.shape == (groups,) and not importance.requires_grad
    torch.testing.assert_close(importance, torch.stack(expected))
    assert torch.equal(importance, compute_gqa_group_importance(layer, head_dim=head_dim, gqa_ratio=ratio))
    scores = score(GQA(), folder, tokens, Runtime("cpu", 6)).layers[2].attention
    torch.testing.assert_close(importance, torch.tensor(scores), rtol=1e-3, atol=1e-7)


def test_importance_needs_gradients(tokens: torch.Tensor) -> None:
    model = build_model("llama")
    layer = model.model.layers[0]
    with pytest.raises(
        PrunerError,
        match=r"self_attn\.q_proj\.weight has no gradient; set requires_grad and run loss\.backward\(\) first",
    ):
        compute_gqa_group_importance(layer)
    layer.self_attn.o_proj.weight.requires_grad_(False)
    model(input_ids=tokens, labels=tokens).loss.backward()
    with pytest.raises(PrunerError, match=r"self_attn\.o_proj\.weight has no gradient"):
        compute_gqa_group_importance(layer)


def test_selection() -> None:
    importance = torch.tensor([2.0, 5.0, 1.0, 2.0])
    assert select_gqa_groups_to_prune(importance, 4) == ([0, 1, 2, 3], [])
    assert select_gqa_groups_to_prune(importance, 2) == ([0, 1], [2, 3])
    assert select_gqa_groups_to_prune(importance.tolist(), 1) == ([1], [0, 2, 3])
    for target in (0, 5):
        with pytest.raises(PlanError, match=f"target_num_kv_heads must be 1 … 4, .* not {target}"):
            select_gqa_groups_to_prune(importance, target)
    with pytest.raises(PlanError, match="must be finite"):
        select_gqa_groups_to_prune([1.0, float("nan")], 1)


@by_grouping
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_pruned_in_place_runs_as_if_masked(
    family: str, overrides: dict[str, Any], attention: str, tokens: torch.Tensor
) -> None:
    """Every layer keeps other groups; all at once, token by token with a cache, and trained one step."""
    model = build_model(family, **overrides, attn_implementation=attention)
    masked = copy.deepcopy(model)
    groups = model.config.num_key_value_heads
    ratio = model.config.num_attention_heads // groups
    head_dim = model.model.layers[0].self_attn.head_dim
    for index, layer in enumerate(model.model.layers):
        keep = [group for group in range(groups) if groups == 1 or group % 4 != index]
        bias = copy.deepcopy(layer.self_attn.o_proj.bias)
        assert prune_attention_by_gqa_groups(layer, keep) == (len(keep) * ratio, len(keep))
        columns = masked.model.layers[index].self_attn.o_proj.weight.data.unflatten(1, (groups, -1))
        columns[:, [group for group in range(groups) if group not in keep]] = 0
        own = layer.self_attn
        assert (own.q_proj.out_features, own.k_proj.out_features, own.v_proj.out_features, own.o_proj.in_features) == (
            len(keep) * ratio * head_dim,
            len(keep) * head_dim,
            len(keep) * head_dim,
            len(keep) * ratio * head_dim,
        )
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            linear = getattr(own, name)
            assert linear.weight.shape == (linear.out_features, linear.in_features) and linear.weight.requires_grad
            assert linear.bias is None or linear.bias.shape == (linear.out_features,)
        assert bias is None or torch.equal(own.o_proj.bias, bias)
    with torch.no_grad():
        expected = masked(input_ids=tokens, use_cache=False).logits
        torch.testing.assert_close(model(input_ids=tokens, use_cache=False).logits, expected, rtol=1e-4, atol=1e-4)
        cache, steps = None, []
        for position in range(tokens.shape[1]):
            output = model(input_ids=tokens[:, position : position + 1], past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            steps.append(output.logits)
        torch.testing.assert_close(torch.cat(steps, dim=1), expected, rtol=1e-4, atol=1e-4)
    model(input_ids=tokens, labels=tokens).loss.backward()
    assert compute_gqa_group_importance(model.model.layers[0]).shape == (max(groups - 1 - groups // 5, 1),)


@pytest.mark.parametrize(
    ("keep", "options", "message"),
    [
        ([], {}, "at least one, not"),
        ([4], {}, "ascending and within 0 … 3"),
        ([-1, 2], {}, "within 0 … 3"),
        ([2, 1], {}, "ascending"),
        ([1, 1], {}, "ascending"),
        ([1], {"head_dim": 3}, "head_dim is 3, but the layer has 6"),
        ([1], {"gqa_ratio": 4}, "gqa_ratio is 4, but the layer has 2"),
    ],
)
def test_cuts_that_do_not_fit(keep: list[int], options: dict[str, int], message: str) -> None:
    layer = build_model("llama").model.layers[0]
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(PlanError, match=message):
        prune_attention_by_gqa_groups(layer, keep, **options)
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


def test_layers_that_do_not_say_their_heads() -> None:
    layer = build_model("llama").model.layers[0]
    del layer.self_attn.head_dim, layer.self_attn.num_key_value_groups
    with pytest.raises(PlanError, match="has no attribute for head_dim; pass head_dim"):
        prune_attention_by_gqa_groups(layer, [0])
    with pytest.raises(PlanError, match="head_dim 6 and gqa_ratio 4 do not fit attention with 48 query, 24 key"):
        prune_attention_by_gqa_groups(layer, [0], head_dim=6, gqa_ratio=4)
    assert prune_attention_by_gqa_groups(layer, torch.tensor([0, 3]), head_dim=6, gqa_ratio=2) == (4, 2)


# samples


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(" ".join(WORDS[index % len(WORDS)] for index in range(1000)))
    return path


@pytest.fixture
def documents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for the hub: documents of 1 … 40 words."""
    content = [" ".join(WORDS[index : index + size]) for index, size in enumerate(range(1, 41))]
    load_dataset = lambda *_, **__: {"text": content}  # noqa: E731
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))


def test_samples_of_a_file_are_those_of_a_run(
    text: Path, tokenizer: Any, make_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = get_examples(str(text), tokenizer, num_samples=8, seq_len=20, seed=3)
    assert examples.shape == (8, 20) and examples.dtype == torch.int64
    monkeypatch.setattr("llm_pruner.data.sampling.load_tokenizer", lambda *_: tokenizer)
    output = tmp_path / "run.safetensors"
    draw_samples(SampleSpec(str(text), None, 8, 20, 3), make_model("llama"), output)
    assert torch.equal(examples, read_tokens(output))


@pytest.mark.parametrize("source", ["file", "c4", "builtin"])
def test_more_samples_begin_with_the_fewer(source: str, text: Path, tokenizer: Any, documents: None) -> None:
    """So callers load the most they need once, and take the first n."""
    dataset = str(text) if source == "file" else source
    few, many, other = (
        get_examples(dataset, tokenizer, num_samples, 16, seed=seed) for num_samples, seed in ((3, 0), (9, 0), (9, 1))
    )
    assert torch.equal(few, many[:3])
    assert not torch.equal(many, other)


def test_token_file_is_taken_as_it_is(tokens: torch.Tensor, tmp_path: Path) -> None:
    write_tokens(tmp_path / "mine.safetensors", tokens, {})
    assert torch.equal(get_examples(str(tmp_path / "mine.safetensors"), None, 4, 20), tokens[:4])
    with pytest.raises(DataError, match="holds 6 samples of 20 tokens, not 4 of 16"):
        get_examples(str(tmp_path / "mine.safetensors"), None, 4, 16)


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ("builtin", {"split": "test"}, "measured on the split 'test'; draw from 'train' or 'calib"),
        ("c4", {"split": "validation"}, "c4: results are measured on the split 'validation'; draw from 'train'"),
        ("wikitext2", {"split": "tests"}, "wikitext2 has no split 'tests'; did you mean 'test'"),
        ("wikitext", {"split": "train"}, "'wikitext' is neither a file nor a known source; did you mean 'wikitext2'"),
        ("wikitext", {}, "neither a file nor a known source; did you mean 'wikitext2'"),
        ("c4", {"num_samples": 25}, r"c4 \(train\): has text for 24 samples of 16 tokens, not 25"),
        ("c4", {"num_samples": 0}, "must be at least 1, not 0 and 16"),
    ],
)
def test_samples_that_cannot_be_drawn(
    dataset: str, options: dict[str, Any], message: str, tokenizer: Any, documents: None
) -> None:
    with pytest.raises(DataError, match=message):
        get_examples(dataset, tokenizer, **{"seq_len": 16, **options})


def test_examples_from_text(tokenizer: Any) -> None:
    ids = {word: 3 + index for index, word in enumerate(WORDS)}
    expected = [[ids["the"], ids["of"], ids["a"]], [ids["is"], ids["to"], ids["and"]]]
    examples = get_examples_from_text(["the of", "a is to and", "in that"], tokenizer, seq_len=3)
    assert examples.tolist() == expected and examples.dtype == torch.int64
    assert get_examples_from_text("the of a is to and in", tokenizer, 3).tolist() == expected
    with pytest.raises(DataError, match="too short for one sample of 3 tokens"):
        get_examples_from_text(["the", "of"], tokenizer, 3)
    with pytest.raises(DataError, match="seq_len must be at least 1"):
        get_examples_from_text(["the"], tokenizer, 0)


def test_every_family_is_covered_by_a_grouping() -> None:
    assert {family for family, _ in GROUPINGS} == set(FAMILIES)

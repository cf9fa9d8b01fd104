"""Slicing: what rotation leaves alone, what the slices compute, and how wide they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from llm_pruner.analysis.comparison import write_analysis
from llm_pruner.exports.uniform import write_uniform
from llm_pruner.models.architecture import Architecture, read_architecture
from llm_pruner.models.checkpoint import load
from llm_pruner.models.doctor import examine
from llm_pruner.planning.slice_widths import constant_width, removes_hidden, widths_by_variance
from llm_pruner.pruners import BasePruner
from llm_pruner.system.errors import CheckpointError, ConfigError, PlanError
from llm_pruner.system.files import read_json
from llm_pruner.system.records import Pair
from llm_pruner.variants.grammar import resolve
from llm_pruner.variants.make import prune
from llm_pruner.workflow.config import load_config
from llm_pruner.workflow.preflight import preflight
from tests.tiny.families import FAMILIES
from tests.tiny.making import make
from tests.tiny.models import build_model, logits, project_out


def rotate(base: Path, tokens: Path, output: Path) -> Path:
    """Rotation alone: every position keeps its full width."""
    variant = replace(resolve("SliceGPT_2000", {"multiple_of": 1}), amount=0.0)
    prune(variant, base, output, calibration=tokens, device="cpu")
    return output / "model"


@pytest.fixture
def sliced(make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> Path:
    """A Llama of hidden width 32, sliced to 24."""
    make("SliceGPT_2500", {}, make_model("llama"), token_file, tmp_path / "sliced")
    return tmp_path / "sliced" / "model"


@pytest.mark.parametrize("family", FAMILIES)
def test_rotation_alone_changes_nothing(
    family: str, make_model: Callable[..., Path], token_file: Path, tokens: torch.Tensor, tmp_path: Path
) -> None:
    base = make_model(family, rms_norm_eps=0.1)  # large enough to be seen if it were not the model's own
    before, after = (logits(load(folder), tokens) for folder in (base, rotate(base, token_file, tmp_path)))
    assert before.abs().max() > 1
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_rotation_alone_in_float64(
    family: str, token_file: Path, tokens: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With norms that do not fall back to float32, as transformers' own do, the difference is that of float64."""

    def forward(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        return self.weight * hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + self.variance_epsilon)

    model = build_model(family).double()
    for norm in {type(module) for module in model.modules() if type(module).__name__.endswith("RMSNorm")}:
        monkeypatch.setattr(norm, "forward", forward)
    model.save_pretrained(tmp_path / "base")
    after = load(rotate(tmp_path / "base", token_file, tmp_path))
    assert after.dtype == torch.float64
    torch.testing.assert_close(logits(after, tokens), logits(model, tokens), rtol=0, atol=1e-13)


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_are_those_of_projections(
    family: str, make_model: Callable[..., Path], token_file: Path, tokens: torch.Tensor, tmp_path: Path
) -> None:
    """Up to a rotation, which inner products between tokens do not see."""
    make("SliceGPT_2500", {}, make_model(family), token_file, tmp_path)
    sliced = load(tmp_path / "model")
    dense = project_out(build_model(family), tokens, sliced.config.sliced["widths"])
    entering: list[torch.Tensor] = []
    for norm in (dense.model.layers[2].input_layernorm, dense.model.layers[2].post_attention_layernorm):
        norm.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    for norm in (sliced.model.layers[2].input_layernorm, sliced.model.layers[2].post_attention_layernorm):
        norm.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    for model in (dense, sliced):
        logits(model, tokens)
    whole, kept = entering[:2], entering[2:]
    for theirs, ours in zip(whole, kept, strict=True):
        assert theirs.shape[-1] == 32 and ours.shape[-1] == 24
        torch.testing.assert_close(ours @ ours.mT, theirs @ theirs.mT, rtol=1e-4, atol=1e-4)


def expected_parameters(base: Architecture, widths: list[int]) -> int:
    """By formula: what each position's width multiplies."""
    config = base.config
    queries, keys = (config[key] * base.head_dim for key in ("num_attention_heads", "num_key_value_heads"))
    channels, vocabulary = config["intermediate_size"], config["vocab_size"]
    total = vocabulary * (widths[0] + base.hidden_size)
    for enter, middle, leave in zip(widths[:-2:2], widths[1::2], widths[2::2], strict=True):
        total += (queries + 2 * keys) * enter + queries * middle + enter * middle
        total += 2 * channels * middle + channels * leave + middle * leave
        if base.family == "llama":
            total += queries + 2 * keys + middle + 2 * channels + leave
        if base.family == "qwen2":
            total += queries + 2 * keys
        if base.family == "qwen3":
            total += 2 * base.head_dim
    return total


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_by_formula(family: str, make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> None:
    base = make_model(family)
    record = make("SliceGPT_uneven_3000", {"schedule": "variance", "multiple_of": 2}, base, token_file, tmp_path)
    after = read_architecture(tmp_path / "model")
    assert after.total_parameters == expected_parameters(read_architecture(base), after.config["sliced"]["widths"])
    grown = after.total_parameters - read_architecture(base).total_parameters
    assert any("more than the base" in note for note in record.notes) is (grown > 0)


def test_bfloat16_stays_bfloat16(token_file: Path, tokens: torch.Tensor, tmp_path: Path) -> None:
    """Stored in bfloat16, but computed above it: the rotated weights are the nearest of the exact ones."""
    model = build_model("llama").bfloat16()
    model.save_pretrained(tmp_path / "base")
    rotated = rotate(tmp_path / "base", token_file, tmp_path)
    assert {entry.dtype for entry in read_architecture(rotated).tensors.values()} == {"BF16"}
    exact, ours = (logits(load(folder, dtype="float32"), tokens) for folder in (tmp_path / "base", rotated))
    assert (ours - exact).norm() / exact.norm() < 0.02


def test_configuration(make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> None:
    base = make_model("qwen3")
    make("SliceGPT_2500", {}, base, token_file, tmp_path)
    before, after = (read_json(folder / "config.json") for folder in (base, tmp_path / "model"))
    assert after["sliced"] == {"widths": [24] * 8 + [32]}
    assert before["tie_word_embeddings"] and not after["tie_word_embeddings"]
    assert after["architectures"] == ["SlicedQwen3ForCausalLM"]
    assert after["auto_map"] == {
        "AutoModel": "modeling_sliced.SlicedQwen3Model",
        "AutoModelForCausalLM": "modeling_sliced.SlicedQwen3ForCausalLM",
    }
    same = before.keys() - {"tie_word_embeddings", "architectures"}
    assert {key: after[key] for key in same} == {key: before[key] for key in same}


def test_hidden_states_and_gradient_checkpointing(
    make_model: Callable[..., Path], token_file: Path, tokens: torch.Tensor, tmp_path: Path
) -> None:
    """What transformers offers on its own classes works on the sliced ones."""
    make("SliceGPT_2500", {}, make_model("mistral"), token_file, tmp_path)
    model = load(tmp_path / "model")
    states = model(input_ids=tokens, output_hidden_states=True).hidden_states
    assert [state.shape[-1] for state in states] == [24, 24, 24, 24, 32]
    plain = model(input_ids=tokens, labels=tokens).loss
    model.train().gradient_checkpointing_enable()
    loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    torch.testing.assert_close(loss, plain)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_constant_width() -> None:
    assert constant_width(4096, 0.2, 8) == 3272
    assert constant_width(4096, 0.25, 8) == 3072
    assert constant_width(640, 0.1, 1) == 576
    with pytest.raises(PlanError, match=r"99\.00% of a hidden width of 64 leaves fewer than 8"):
        constant_width(64, 0.99, 8)


def test_widths_from_spectra() -> None:
    """A third of six dimensions may go at two positions: eight are left to share.

    Shares kept of the first 1, 2, 3 ... directions: .5 .8 .9 .95 .99 1 and .3 .5 .65 .8 .9 1. From one each, the
    lowest share grows: .3 → .5, then of equals the first .5 → .8, .5 → .65 → .8, then .8 → .9, and .8 → .9.
    """
    spectra = [[50.0, 30, 10, 5, 4, 1], [30.0, 20, 15, 15, 10, 10]]
    assert widths_by_variance(spectra, removes_hidden(6, 1 / 3), 1) == [3, 5]
    # one fewer: the last step is not made; a threshold that both keep is .8
    assert widths_by_variance(spectra, removes_hidden(6, 0.4), 1) == [3, 4]
    assert widths_by_variance(spectra, removes_hidden(6, 0.3333), 2) == [4, 4]


def test_full_width_is_not_exceeded() -> None:
    """The second position needs everything before the first is served."""
    assert widths_by_variance([[97.0, 1, 1, 1], [1.0, 1, 1, 1]], removes_hidden(4, 0.25), 1) == [2, 4]


def test_schedule_follows_the_spectra(
    make_model: Callable[..., Path], token_file: Path, tokens: torch.Tensor, tmp_path: Path
) -> None:
    base = make_model("llama")
    make("SliceGPT_uneven_3000", {"schedule": "variance", "multiple_of": 1}, base, token_file, tmp_path)
    spectra = []
    model = load(base)
    for layer in model.model.layers:
        for norm in (layer.input_layernorm, layer.post_attention_layernorm):
            norm.register_forward_pre_hook(
                lambda _, inputs: spectra.append(
                    torch.linalg.svdvals(inputs[0].flatten(0, 1).double()).square().tolist()
                )
            )
    logits(model, tokens)
    widths = read_json(tmp_path / "model" / "config.json")["sliced"]["widths"]
    assert widths == [*widths_by_variance(spectra, removes_hidden(32, 0.3), 1), 32]
    assert len(set(widths)) > 2


def test_too_few_tokens(make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="20 calibration tokens do not span a hidden width of 32"):
        make("SliceGPT_2500", {"samples": 1}, make_model("llama"), token_file, tmp_path)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("parameter", ["model.layers.3.mlp.down_proj.weight", "model.norm.weight"])
def test_damage_that_no_activation_shows(parameter: str, token_file: Path, tmp_path: Path) -> None:
    """Nothing behind the last MLP is calibrated on."""
    model = build_model("qwen2")
    model.get_parameter(parameter).data[0] = float("nan")
    model.save_pretrained(tmp_path / "base")
    with pytest.raises(CheckpointError, match="holds NaN or infinite values"):
        make("SliceGPT_2500", {}, tmp_path / "base", token_file, tmp_path / "out")
    assert not (tmp_path / "out" / "model").exists()


def test_truncated_base(make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    build_model("llama").save_pretrained(base)
    with (base / "model.safetensors").open("r+b") as file:
        file.truncate(20_000)
    with pytest.raises(CheckpointError, match="truncated"):
        make("SliceGPT_2500", {}, base, token_file, tmp_path / "out")
    assert not (tmp_path / "out" / "model").exists()


def test_unsupported_family(token_file: Path, tmp_path: Path) -> None:
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=97)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "base")
    with pytest.raises(CheckpointError, match=r"'gpt2' .* is not supported"):
        make("SliceGPT_2500", {}, tmp_path / "base", token_file, tmp_path / "out")
    assert not (tmp_path / "out" / "model").exists()


def test_preflight() -> None:
    """Both problems before anything runs, each with its variant; the built-in model's hidden width is 128."""
    raw = {
        "model": {"source": "builtin"},
        "calibration": {"samples": 4, "length": 64},
        "variants": ["SliceGPT_2000", "SliceGPT_9500", {"SliceGPT_few_2000": {"samples": 1}}],
    }
    config, variants = load_config(raw)
    with pytest.raises(ConfigError) as caught:
        preflight(config, variants.values())
    assert caught.value.problems == [
        "variants: SliceGPT_9500: removing 95.00% of a hidden width of 128 leaves fewer than 8 dimensions, the "
        "smallest width that multiple_of allows",
        "variants: SliceGPT_few_2000: 64 calibration tokens do not span a hidden width of 128; raise "
        "calibration.samples or length",
    ]


def test_what_a_sliced_model_cannot_become(sliced: Path, token_file: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="padding cannot undo slices"):
        write_uniform(sliced, tmp_path / "uniform")
    for name in ("Magnitude_2000", "ShortGPT_remove_1", "SliceGPT_2500"):
        with pytest.raises(PlanError, match="sliced already"):
            make(name, {}, sliced, token_file, tmp_path / "again")
    with pytest.raises(PlanError, match="sliced already"):
        BasePruner(load(sliced))
    assert not (tmp_path / "uniform").exists() and not (tmp_path / "again" / "model").exists()


def test_zeros_in_a_sliced_model(sliced: Path, token_file: Path, tokens: torch.Tensor, tmp_path: Path) -> None:
    """Sparsity knows nothing of the residual stream and works on any basis."""
    record = make("Wanda_2of4", {}, sliced, token_file, tmp_path / "sparse")
    assert record.reached.amount == 0.5
    one, other = (logits(load(folder), tokens) for folder in (sliced, tmp_path / "sparse" / "model"))
    assert one.shape == other.shape and not torch.equal(one, other)


def test_analysis(sliced: Path, make_model: Callable[..., Path], tmp_path: Path) -> None:
    base = make_model("llama")
    comparison = write_analysis(base, sliced, None, tmp_path / "analysis", "SliceGPT_2500")
    parts = {part: sizes.parameters for part, sizes in comparison.parts.items()}
    # two shortcuts a layer, 24 × 24 all but the last, which is 24 × 32
    assert parts["shortcut"] == Pair(before=0, after=7 * 24 * 24 + 24 * 32)
    assert parts["norm"].after == 0
    assert parts["embedding"].after == 97 * 24 and parts["lm_head"].after == 97 * 32
    assert sum(sizes.after for sizes in parts.values()) == comparison.totals.parameters.after
    first, last = comparison.layers[0], comparison.layers[3]
    blocks = first.attention.parameters.after + first.mlp.parameters.after
    assert first.parameters.after == blocks + 2 * 24 * 24
    assert last.shortcut == Pair(before=0, after=24 * 24 + 24 * 32)
    table = (tmp_path / "analysis" / "pruning_summary_by_layer.txt").read_text()
    assert "shortcuts" in table and "0 → 4,800" in table
    assert first.mlp.channels == Pair(before=24, after=24)


def test_doctor(sliced: Path) -> None:
    assert {check.name for check in examine(sliced, device="cpu") if check.outcome != "ok"} == {"tokenizer"}


def test_names() -> None:
    variant = resolve("SliceGPT_2000")
    assert (variant.mechanism, variant.structure, variant.amount) == ("slice", "slice", 0.2)
    assert variant.scores == () and variant.calibrated
    with pytest.raises(ConfigError, match="SliceGPT cannot prune by sparse, only by slice"):
        resolve("SliceGPT_2of4")
    with pytest.raises(ConfigError, match="uniform: unknown option"):
        resolve("SliceGPT_2000", {"uniform": True})

"""Models of every kind stored in 4 bits: what they compute, what they hold, and what cannot be done with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import llm_pruner
from llm_pruner.analysis.structure import analyze_model
from llm_pruner.models.architecture import read_architecture
from llm_pruner.models.checkpoint import load
from llm_pruner.models.doctor import examine
from llm_pruner.models.layout import LINEARS, component
from llm_pruner.models.nf4 import fake_nf4
from llm_pruner.models.packed import memory_bytes
from llm_pruner.steps.nf4 import NF4Options, quantize_model
from llm_pruner.system.errors import CheckpointError, ConfigError, PlanError
from llm_pruner.system.files import read_json
from llm_pruner.variants.grammar import derive, resolve
from llm_pruner.variants.records import PruningRecord
from llm_pruner.variants.step import take_step
from llm_pruner.workflow.config import load_config
from tests.tiny.families import in_turn
from tests.tiny.foreign import foreign_logits
from tests.tiny.making import make
from tests.tiny.models import logits

PARENTS: dict[str, dict[str, Any]] = {
    "Dense": {},
    "FLAP_2000": {},
    "ShortGPT_attention_remove_2": {"drop": "attention"},
    "SliceGPT_2500": {},
    "Wanda_2of4": {},
}


def quantized_by_hand(folder: Path, double_quant: bool = False) -> Any:
    """The model with the linear weights of its blocks as NF4 leaves them."""
    model = load(folder)
    for name, parameter in model.named_parameters():
        if component(name)[0] is not None and name.removesuffix(".weight").partition(".layers.")[2][2:] in LINEARS:
            parameter.data = fake_nf4(parameter.data, double_quant=double_quant)
    return model


@pytest.mark.parametrize(("name", "family"), in_turn([*PARENTS]))
def test_computes_with_the_quantized_weights(
    name: str,
    family: str,
    make_model: Callable[..., Path],
    make_parent: Callable[..., Path],
    tokens: torch.Tensor,
    tmp_path: Path,
) -> None:
    parent, output = make_parent(name, PARENTS[name], make_model(family)), tmp_path / "small"
    variant = derive(resolve(name, PARENTS[name]), "nf4")
    record = take_step(variant, parent / "model", PruningRecord.read(parent / "pruning.json"), output, files={})
    model = llm_pruner.load(output / "model")
    expected = logits(quantized_by_hand(parent / "model"), tokens)
    torch.testing.assert_close(logits(model, tokens), expected, rtol=1e-4, atol=1e-4)
    assert (expected - logits(load(parent / "model"), tokens)).abs().max() > 1e-3
    cached, plain = (
        model.generate(tokens[:2], max_new_tokens=8, do_sample=False, use_cache=use) for use in (True, False)
    )
    assert torch.equal(cached, plain)

    before, after = (analyze_model(folder / "model", "m") for folder in (parent, output))
    assert after.totals.parameters == before.totals.parameters
    assert read_architecture(output / "model").layers == read_architecture(parent / "model").layers
    assert after.totals.bytes_on_disk < before.totals.bytes_on_disk
    (taken,) = record.steps
    assert taken.bytes and taken.bytes.before == before.totals.bytes_on_disk
    assert taken.bytes.after == after.totals.bytes_on_disk
    zeros = sum(int((p == 0).sum()) for p in quantized_by_hand(parent / "model").parameters())
    assert after.totals.parameters - after.totals.nonzero == zeros
    assert memory_bytes(model) < memory_bytes(load(parent / "model"))
    assert record.parent == name and record.variant == f"{name}+nf4"
    assert all(check.outcome == "ok" or check.name == "tokenizer" for check in examine(output / "model", device="cpu"))


def test_same_bytes_twice_and_fewer_with_double_quantisation(make_model: Callable[..., Path], tmp_path: Path) -> None:
    base = make_model("qwen3", hidden_size=256, intermediate_size=512)
    for name, options in (("one", {}), ("two", {}), ("double", {"double_quant": True})):
        quantize_model(base, tmp_path / name, NF4Options(**options))
    one, two, double = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two", "double"))
    assert one == two
    linears = sum(entry.numel for entry in read_architecture(base).linears().values())
    rest = read_architecture(base).total_parameters - linears
    # half a byte a weight, four for the scale of 64; names, codes and descriptions besides
    assert 0 < len(one) - (linears / 2 + linears / 16 + rest * 4) < 50_000
    model, by_hand = load(tmp_path / "double"), quantized_by_hand(base, double_quant=True)
    ids = torch.arange(3, 23).view(1, 20)
    torch.testing.assert_close(logits(model, ids), logits(by_hand, ids), rtol=1e-4, atol=1e-4)
    assert len(double) < len(one)


def test_loads_with_nothing_of_ours(
    make_model: Callable[..., Path],
    make_parent: Callable[..., Path],
    token_file: Path,
    tokens: torch.Tensor,
    tmp_path: Path,
) -> None:
    """Also where widths are odd, which not every kernel takes."""
    base = make_model("qwen2", hidden_size=64, intermediate_size=250)
    folders = {tmp_path / name: True for name in ("GQA_2000", "SliceGPT_2500")}
    for folder in folders:
        quantize_model(make_parent(folder.name, {}, base) / "model", folder, NF4Options())
    for folder, theirs in foreign_logits(folders, token_file, tmp_path / "room").items():
        torch.testing.assert_close(theirs, logits(llm_pruner.load(folder), tokens), rtol=1e-4, atol=1e-4)


def test_what_cannot_be_done(make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> None:
    quantize_model(make_model("llama"), tmp_path / "small", NF4Options())
    with pytest.raises(CheckpointError, match="stored in few bits already"):
        quantize_model(tmp_path / "small", tmp_path / "again", NF4Options())
    for name in ("Magnitude_2000", "Wanda_2of4", "ShortGPT_remove_1", "SliceGPT_2500"):
        with pytest.raises(PlanError, match="start from its parent model"):
            make(name, {}, tmp_path / "small", token_file, tmp_path / "out")
    (tmp_path / "pruning.json").write_text('{"variant": "GQA_2000+lora+nf4"}')
    with pytest.raises(PlanError, match=r"start from the model before \+nf4"):
        make("Magnitude_2000", {}, tmp_path / "small", token_file, tmp_path / "out")
    assert not (tmp_path / "again").exists() and not (tmp_path / "out" / "model").exists()
    with pytest.raises(ConfigError, match=r"put \+nf4 last"):
        load_config({"variants": ["GQA_2000+nf4+lora"]}, "config")
    with pytest.raises(ConfigError, match=r"steps\.nf4\.double_quantt: unknown key; did you mean 'double_quant'"):
        load_config({"variants": ["Dense+nf4"], "steps": {"nf4": {"double_quantt": True}}}, "config")
    config, variants = load_config(
        {"variants": ["GQA_2000+lora+nf4"], "steps": {"nf4": {"double_quant": True}}}, "config"
    )
    assert list(variants) == ["Dense", "GQA_2000", "GQA_2000+lora", "GQA_2000+lora+nf4"]
    assert variants["GQA_2000+lora+nf4"].step.options["double_quant"] is True
    assert config.heals and not load_config({"variants": ["GQA_2000+nf4"]}, "config")[0].heals


def test_damaged_weights(make_model: Callable[..., Path], tmp_path: Path) -> None:
    model = load(make_model("llama"))
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    model.save_pretrained(tmp_path / "base")
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        quantize_model(tmp_path / "base", tmp_path / "small", NF4Options())
    assert not (tmp_path / "small").exists()
    assert read_json(tmp_path / "base" / "config.json")["model_type"] == "llama"

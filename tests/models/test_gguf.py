"""GGUF files: read as what transformers reads them as, and refused by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch

import llm_pruner
from llm_pruner.models.gguf import read_gguf
from llm_pruner.models.prepare import prepare_model
from llm_pruner.system.errors import CheckpointError, ConfigError
from llm_pruner.workflow.config import load_config
from llm_pruner.workflow.preflight import preflight
from tests.tiny.gguf_files import GGUF_FAMILIES, write_gguf


def prepare(source: str | Path, output: Path, **options: Any) -> dict[str, Any]:
    return prepare_model(str(source), output / "base", output / "base.json", **options)


@pytest.mark.parametrize("family", GGUF_FAMILIES)
def test_model_and_tokenizer_come_out_as_they_went_in(family: str, tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "model.gguf", family)
    record = prepare(tmp_path / "model.gguf", tmp_path)
    ids = torch.arange(20).view(2, 10)
    loaded = llm_pruner.load(tmp_path / "base")
    with torch.inference_mode():
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits)
    assert record.gguf["tensors"].keys() == {"F32"} and record.gguf["dtype"] == "float32"
    assert record.parameters == model.num_parameters()

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    assert tokenizer("the")["input_ids"] == [tokenizer.convert_tokens_to_ids("the")]
    assert tokenizer.decode(tokenizer("them\n")["input_ids"]) == "them\n"
    # nothing of the environment that the job ran in
    assert "local_files_only" not in (tmp_path / "base" / "tokenizer_config.json").read_text()


@pytest.mark.parametrize("stored", ["Q4_1", "Q8_0", "F16", "BF16"])
def test_few_bits_mean_what_transformers_takes_them_for(stored: str, tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    write_gguf(tmp_path / "model.gguf", "llama", stored=stored)
    record = prepare(tmp_path, tmp_path, gguf_file="model.gguf")
    dtype = {"F16": "float16", "BF16": "bfloat16"}.get(stored, "float32")
    assert record.gguf["dtype"] == dtype
    theirs = LlamaForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=getattr(torch, dtype))
    ours = llm_pruner.load(tmp_path / "base").state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.state_dict().items())


def test_dequantised_to_the_dtype_that_is_asked_for(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", "llama", stored="Q8_0")
    prepare(tmp_path / "model.gguf", tmp_path, dtype="bfloat16")
    assert llm_pruner.load(tmp_path / "base").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"without": "layers.1.mlp.up_proj"}, r"lacks 'model\.layers\.1\.mlp\.up_proj\.weight'"),
        ({"without": "embed_tokens"}, r"no 'token_embd\.weight'"),
        (
            {"extra": "blk.0.attn_sinks.weight"},
            r"holds 'blk\.0\.attn_sinks\.weight', which is no tensor of a supported model",
        ),
        ({"extra": "rope_freqs.weight"}, "its positions are scaled"),
    ],
)
def test_another_model_than_its_header_says(options: dict[str, str], message: str, tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", "qwen2", **options)
    with pytest.raises(CheckpointError, match=rf"model\.gguf: .*{message}"):
        prepare(tmp_path / "model.gguf", tmp_path)
    assert not (tmp_path / "base").exists()


def test_cut_off_anywhere(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    write_gguf(file, "llama", stored="Q4_1")
    content = file.read_bytes()
    for length in (*range(4, len(content), len(content) // 60), len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"truncated or damaged|its header has no"):
            read_gguf(file)


def test_what_is_no_gguf_file(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    for content in (b"", b"GG", b"{}", b"PK" + bytes(100)):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match="not a GGUF file"):
            read_gguf(file)
    writer = gguf.GGUFWriter(file, "bloom")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match="architecture 'bloom' of this GGUF file is not supported"):
        read_gguf(file)


def test_shape_is_checked_before_any_job(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", "qwen3")
    raw = {
        "model": {"source": str(tmp_path / "model.gguf")},
        "variants": ["ShortGPT_remove_2"],
        "calibration": {"length": 32},
        "perplexity": {"window": 32},
        "efficiency": {"prompt_length": 8, "new_tokens": 8},
    }
    config, variants = load_config(raw)
    with pytest.raises(ConfigError, match="ShortGPT_remove_2: the model has 2 layers, at most 1 can be removed"):
        preflight(config, variants.values())
    (tmp_path / "model.gguf").write_bytes(b"no")
    with pytest.raises(ConfigError, match=r"model\.source: .*model\.gguf: not a GGUF file"):
        preflight(config, variants.values())


def test_file_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[Any] = []

    def download(repository: str, name: str, *, revision: str | None) -> str:
        asked.append((repository, name, revision))
        return os.fspath(tmp_path / "model.gguf")

    write_gguf(tmp_path / "model.gguf", "llama")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    record = prepare("owner/name-GGUF", tmp_path, gguf_file="name.Q4_1.gguf", revision="abc")
    assert asked == [("owner/name-GGUF", "name.Q4_1.gguf", "abc")] and record.family == "llama"


def test_smollm2_is_the_model_that_its_package_is_said_to_hold() -> None:
    """A model that is known before it is fetched is checked as one that is there."""
    config, variants = load_config({"variants": ["ShortGPT_remove_30", "HGSP_2000", "Wanda_2of4"]})
    with pytest.raises(ConfigError, match="the model has 30 layers, at most 29 can be removed"):
        preflight(config, variants.values())

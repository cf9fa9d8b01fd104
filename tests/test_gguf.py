"""GGUF files: read as what transformers reads them as, and refused by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from conftest import build_model

import llm_pruner
from llm_pruner.config import load_config
from llm_pruner.errors import CheckpointError, ConfigError
from llm_pruner.models.gguf import read_gguf
from llm_pruner.models.prepare import prepare_model
from llm_pruner.preflight import preflight

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
}
# biases of Llama's attention are in no GGUF file that transformers reads
FAMILIES = {
    "llama": {"head_dim": 16, "attention_bias": False, "mlp_bias": False},
    "qwen2": {"use_sliding_window": False},
    "qwen3": {"head_dim": 32},
}
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def gguf_name(parameter: str) -> str:
    module, _, kind = parameter.rpartition(".")
    if module in OUTSIDE:
        return f"{OUTSIDE[module]}.{kind}"
    _, _, layer, inside = module.split(".", 3)
    inside = NORMS.get(inside) or f"{inside.removesuffix('_proj')}".replace("self_attn.", "attn_").replace(
        "mlp.", "ffn_"
    )
    return f"blk.{layer}.{'attn_output' if inside == 'attn_o' else inside}.{kind}"


def write_gguf(path: Path, family: str, *, stored: str = "F32", extra: str | None = None, without: str = "-") -> Any:
    """A random model as a GGUF file, with a tokenizer of bytes; gives the model."""
    model = build_model(family, **SHAPE, **FAMILIES[family])
    config = model.config
    writer = gguf.GGUFWriter(path, family)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if family == "qwen3":
        writer.add_key_length(config.head_dim)
    write_tokenizer(writer)
    for name, tensor in model.state_dict().items():
        if (name == "lm_head.weight" and config.tie_word_embeddings) or without in name:
            continue
        kind = gguf.GGMLQuantizationType[stored if tensor.ndim == 2 else "F32"]
        rows = tensor
        if family == "llama" and (".q_proj" in name or ".k_proj" in name):
            # the two of a rotated pair beside each other
            rows = tensor.unflatten(0, (-1, 2, config.head_dim // 2)).transpose(1, 2).reshape(tensor.shape)
        data = gguf.quantize(rows.numpy(), kind)
        writer.add_tensor(gguf_name(name), data, raw_dtype=kind)
    if extra:
        writer.add_tensor(extra, torch.ones(8).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def write_tokenizer(writer: gguf.GGUFWriter) -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(ByteLevel.alphabet()), "th", "the"]
    tokens += [f"<{index}>" for index in range(SHAPE["vocab_size"] - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 3 + [1] * (len(tokens) - 3))
    writer.add_token_merges(["t h", "th e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def prepare(source: str | Path, output: Path, **options: Any) -> dict[str, Any]:
    return prepare_model(str(source), output / "base", output / "base.json", **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_model_and_tokenizer_come_out_as_they_went_in(family: str, tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "model.gguf", family)
    record = prepare(tmp_path / "model.gguf", tmp_path)
    ids = torch.arange(20).view(2, 10)
    loaded = llm_pruner.load(tmp_path / "base")
    with torch.inference_mode():
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits)
    assert record["gguf"]["tensors"].keys() == {"F32"} and record["gguf"]["dtype"] == "float32"
    assert record["parameters"] == model.num_parameters()

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    assert tokenizer("the")["input_ids"] == [tokenizer.convert_tokens_to_ids("the")]
    assert tokenizer.decode(tokenizer("them\n")["input_ids"]) == "them\n"


@pytest.mark.parametrize("stored", ["Q4_1", "Q8_0", "F16", "BF16"])
def test_few_bits_mean_what_transformers_takes_them_for(stored: str, tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    write_gguf(tmp_path / "model.gguf", "llama", stored=stored)
    record = prepare(tmp_path, tmp_path, gguf_file="model.gguf")
    dtype = {"F16": "float16", "BF16": "bfloat16"}.get(stored, "float32")
    assert record["gguf"]["dtype"] == dtype
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
        ({"extra": "blk.0.attn_sinks.weight"}, r"holds 'blk\.0\.attn_sinks\.weight', which no supported model has"),
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
        with pytest.raises(CheckpointError, match=r"cut off or damaged|its header has no"):
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
    with pytest.raises(CheckpointError, match="architecture 'bloom', which is not supported"):
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
    with pytest.raises(ConfigError, match="ShortGPT_remove_2: the model has 2 layers, at most 1 can go"):
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
    assert asked == [("owner/name-GGUF", "name.Q4_1.gguf", "abc")] and record["family"] == "llama"


def test_smollm2_is_the_model_that_its_package_is_said_to_hold() -> None:
    """A model that is known before it is fetched is checked as one that is there."""
    config, variants = load_config({"variants": ["ShortGPT_remove_30", "HGSP_2000", "Wanda_2of4"]})
    with pytest.raises(ConfigError, match="the model has 30 layers, at most 29 can go"):
        preflight(config, variants.values())

"""Small random models as GGUF files, tokenizer included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import torch

from tests.tiny.models import build_model

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
}
# biases of Llama's attention are in no GGUF file that transformers reads
GGUF_FAMILIES = {
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
    model = build_model(family, **SHAPE, **GGUF_FAMILIES[family])
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

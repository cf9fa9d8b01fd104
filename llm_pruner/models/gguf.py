"""GGUF files: read a model's shape from the header, and dequantise the weights into an ordinary model folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.models.architecture import FAMILIES
from llm_pruner.models.checkpoint import CheckpointWriter, converted
from llm_pruner.models.headers import read_headers
from llm_pruner.models.layout import layer_prefix
from llm_pruner.models.shapes import check_shapes
from llm_pruner.system.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from gguf import GGUFReader

SUFFIX = ".gguf"
_KEYS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
}
"""Keys of config.json, with the header's keys behind the architecture's name."""
_PLAIN = {"F16": "float16", "BF16": "bfloat16"}
_OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
"""Tensors outside the layers, by their names in the file, with transformers' names."""
_IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Modules of a layer, by their names in the file, with transformers' names."""
_TENSOR = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")


def read_gguf(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The shape of the dequantised model as in config.json, and the number of tensors by stored type.

    Needs no torch. The header has the offset of every tensor, so a truncated file is noticed.

    Raises:
        CheckpointError: if the file is missing, truncated, damaged, no GGUF file, or of an unsupported family.
    """
    reader = _read(path)
    return _shape(reader, path), dict(Counter(tensor.tensor_type.name for tensor in reader.tensors))


def dequantize_gguf(path: Path, folder: Path, dtype: str = "auto") -> dict[str, Any]:
    """Write the model, tokenizer and chat template of a GGUF file as a Hugging Face folder, one tensor at a time.

    Args:
        folder: an empty folder.
        dtype: dtype of the folder. ``auto`` is float32, which holds the values of few bits exactly, or the half
            precision that the file is stored in.

    Returns:
        ``file`` (its name), ``tensors`` (numbers by stored type), and ``dtype``.

    Raises:
        CheckpointError: as ``read_gguf``, and if the file lacks a tensor of the model, has a tensor that the model
            lacks, or stores a tensor in a type that cannot be dequantised.
    """
    import torch
    import transformers
    from gguf import dequantize

    reader = _read(path)
    shape = _shape(reader, path)
    types = dict(Counter(tensor.tensor_type.name for tensor in reader.tensors))
    if dtype == "auto":
        halves = [name for stored, name in _PLAIN.items() if stored in types and set(types) <= {stored, "F32"}]
        dtype = halves[0] if halves else "float32"
    place = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    config = transformers.AutoConfig.from_pretrained(**place)
    config.update({**shape, "architectures": [FAMILIES[shape["model_type"]].model_class], "dtype": dtype})
    config.save_pretrained(folder)
    transformers.GenerationConfig.from_model_config(config).save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(**place)
    # whether the network was forbidden here says nothing about the model
    tokenizer.init_kwargs.pop("local_files_only", None)
    tokenizer.save_pretrained(folder)
    with CheckpointWriter(folder) as writer:
        for tensor in reader.tensors:
            name = _parameter(tensor.name, path)
            try:
                values = torch.tensor(dequantize(tensor.data, tensor.tensor_type))
            except NotImplementedError:
                raise CheckpointError(
                    f"{path}: '{tensor.name}' is stored as {tensor.tensor_type.name}, which cannot be dequantised"
                ) from None
            if shape["model_type"] == "llama" and (heads := _rotated_heads(name, shape)):
                values = _in_halves(values, heads)
            writer.add(name, converted(values, dtype, path, tensor.name))
    check_shapes(folder, {name: entry.shape for name, entry in read_headers(folder).items()}, str(path))
    return {"file": path.name, "tensors": types, "dtype": dtype}


def _shape(reader: GGUFReader, path: Path) -> dict[str, Any]:
    family = _value(reader, "general.architecture", path)
    if family not in FAMILIES:
        raise CheckpointError(
            f"{path}: the architecture '{family}' of this GGUF file is not supported "
            f"(supported: {', '.join(sorted(FAMILIES))})"
        )
    stored = {tensor.name: tensor for tensor in reader.tensors}
    if "token_embd.weight" not in stored:
        raise CheckpointError(f"{path}: holds no 'token_embd.weight'; name the file of a whole language model")
    if "rope_freqs.weight" in stored or reader.get_field(f"{family}.rope.scaling.type"):
        raise CheckpointError(
            f"{path}: its positions are scaled, and this file describes the scaling incompletely; take the model's "
            "original folder"
        )
    config = {key: _value(reader, f"{family}.{name}", path) for key, name in _KEYS.items()}
    if uneven := [key for key, value in config.items() if not isinstance(value, int)]:
        raise CheckpointError(f"{path}: {uneven[0]} differs between layers, which is not supported")
    head_dim = reader.get_field(f"{family}.attention.key_length")
    own = {
        "model_type": family,
        "head_dim": int(head_dim.contents()) if head_dim else config["hidden_size"] // config["num_attention_heads"],
        "vocab_size": int(stored["token_embd.weight"].shape[1]),
        "tie_word_embeddings": "output.weight" not in stored,
    }
    return {**config, **own}


def _parameter(name: str, path: Path) -> str:
    """The name in transformers for a tensor of the file."""
    match = _TENSOR.fullmatch(name)
    if match and match[2] in _IN_LAYER:
        return f"{layer_prefix(int(match[1]))}{_IN_LAYER[match[2]]}.{match[3]}"
    if name not in _OUTSIDE:
        raise CheckpointError(f"{path}: holds '{name}', which is no tensor of a supported model")
    return _OUTSIDE[name]


def _rotated_heads(parameter: str, shape: Mapping[str, Any]) -> int | None:
    """Number of heads in the rows of a parameter, if rotary positions apply to these rows; else None."""
    heads = {"q_proj": shape["num_attention_heads"], "k_proj": shape["num_key_value_heads"]}
    return heads.get(parameter.split(".")[-2])


def _in_halves(values: torch.Tensor, heads: int) -> torch.Tensor:
    """Reorder the rows of each head so that the two rows of a rotated pair are half a head apart, as in transformers.

    Files of the Llama architecture have the two rows side by side.
    """
    pairs = values.unflatten(0, (heads, -1, 2))
    return pairs.transpose(1, 2).reshape(values.shape)


def _read(path: Path) -> GGUFReader:
    import numpy as np
    from gguf import GGUFReader

    class PlainReader(GGUFReader):  # type: ignore[misc]
        def __setattr__(self, name: str, value: Any) -> None:
            # a plain array over the mapped file: slices of a map of NumPy take twice as long, and a header has many
            super().__setattr__(name, np.asarray(value) if name == "data" else value)

    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise CheckpointError(f"{path}: not a GGUF file; it does not begin with 'GGUF'")
    try:
        return PlainReader(path)
    except (ValueError, IndexError, KeyError, OverflowError):
        size = path.stat().st_size
        raise CheckpointError(
            f"{path}: this GGUF file is truncated or damaged ({size:,} bytes); download it again"
        ) from None


def _value(reader: GGUFReader, key: str, path: Path) -> Any:
    field = reader.get_field(key)
    if field is None:
        raise CheckpointError(f"{path}: its header has no '{key}'")
    return field.contents()

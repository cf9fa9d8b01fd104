"""The supported model families, described without torch: names of modules and shapes of layers.

Llama, Mistral, Qwen2 and Qwen3 share one block layout. Their differences (biases, q/k norms, head_dim
apart from hidden/heads, sliding windows) are read from the checkpoint itself. A new family of this layout is one
entry in ``FAMILIES``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llm_pruner.models.headers import TensorEntry, read_headers
from llm_pruner.models.layout import (
    BLOCKS,
    EMBEDDING,
    FINAL_NORM,
    HEAD,
    LINEARS,
    NORMS,
    NormLayout,
    block_of_linear,
    component,
    cut_of,
    expected_linears,
    is_linear,
    layer_norms,
    layer_prefix,
    part_of,
)
from llm_pruner.system.errors import CheckpointError, PlanError, nearest
from llm_pruner.system.files import read_json


@dataclass(frozen=True)
class Family:
    """Facts about a model family beyond the common block layout."""

    model_class: str
    """The class of transformers that runs the family's models."""
    heads_divide_hidden: bool = False
    """Whether the configuration class refuses a number of query heads that does not divide the hidden size."""
    bias_keys: tuple[str, ...] = ()
    """Keys of config.json that together give every linear layer of the decoder layers a bias."""


FAMILIES: Mapping[str, Family] = {
    "llama": Family("LlamaForCausalLM", heads_divide_hidden=True, bias_keys=("attention_bias", "mlp_bias")),
    "mistral": Family("MistralForCausalLM"),
    "qwen2": Family("Qwen2ForCausalLM"),
    "qwen3": Family("Qwen3ForCausalLM"),
}
"""Families by ``model_type`` of config.json."""

DROPPED = "dropped_blocks"
"""The key of config.json with the layers that lack a block: ``{"attention": [2, 3]}``."""
ADDED_BIASES = "added_biases"
"""The key of config.json with the linear layers, within every decoder layer, that have a bias which the family's own
class lacks: ``["mlp.down_proj"]``."""
MODEL_AGAIN = "get the model's folder again or, if a run made it, delete it and run again"
"""What to do about a model whose config.json is damaged; the file may be a user's own."""
_PER_LAYER = ("num_attention_heads", "num_key_value_heads", "intermediate_size")


@dataclass(frozen=True)
class LayerShape:
    """Widths of one decoder layer; 0 for a block that the layer lacks."""

    heads: int
    key_value_groups: int
    channels: int
    """MLP channels (``intermediate_size``)."""
    group_parameters: int
    """Parameters of one key-value group: its k and v rows, and its query heads' q rows and o columns."""
    channel_parameters: int
    """Parameters of one MLP channel: its gate and up rows and its down column."""

    @property
    def heads_per_group(self) -> int:
        return self.heads // max(self.key_value_groups, 1)


@dataclass(frozen=True)
class Architecture:
    """The shape of a checkpoint: family, layers, and places of the parameters."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, TensorEntry]

    @property
    def family(self) -> str:
        return str(self.config["model_type"])

    @property
    def num_layers(self) -> int:
        return int(self.config["num_hidden_layers"])

    @property
    def hidden_size(self) -> int:
        return int(self.config["hidden_size"])

    @property
    def head_dim(self) -> int:
        return int(self.config.get("head_dim") or self.hidden_size // self.config["num_attention_heads"])

    @cached_property
    def layers(self) -> tuple[LayerShape, ...]:
        return tuple(self._layer_shape(index) for index in range(self.num_layers))

    @property
    def total_parameters(self) -> int:
        """All parameters of the checkpoint. A tied output embedding is stored once and counts once."""
        return sum(tensor.numel for tensor in self.tensors.values())

    def accepts_heads(self, heads: int) -> bool:
        """Whether transformers' own configuration class accepts this number of query heads for every layer."""
        return not FAMILIES[self.family].heads_divide_hidden or self.hidden_size % heads == 0

    def layer_config(self, index: int) -> dict[str, int]:
        """Heads, key-value heads and MLP width of one layer, with ``per_layer_config`` and dropped blocks applied."""
        overrides = {int(key): value for key, value in (self.config.get("per_layer_config") or {}).items()}
        own = overrides.get(index, {})
        widths = {key: int(own.get(key, self.config[key])) for key in _PER_LAYER}
        dropped = self.dropped_blocks(index)
        if "attention" in dropped:
            widths |= {"num_attention_heads": 0, "num_key_value_heads": 0}
        if "mlp" in dropped:
            widths |= {"intermediate_size": 0}
        return widths

    def dropped_blocks(self, index: int) -> tuple[str, ...]:
        """Blocks that a layer lacks: ``attention`` or ``mlp``."""
        dropped = self.config.get(DROPPED) or {}
        return tuple(block for block in BLOCKS if index in dropped.get(block, ()))

    @cached_property
    def norms(self) -> NormLayout:
        """The arrangement of the layers' norms.

        Raises:
            CheckpointError: if the norms have no known arrangement.
        """
        return layer_norms(self.tensors)

    def block_of(self, parameter: str) -> str | None:
        """The block of its layer that a parameter belongs to, norms included; None outside the blocks."""
        part = part_of(parameter)
        return None if part is None else self.norms.block(part)

    def check_blocks(self) -> None:
        """Raise PlanError if a layer lacks a block, and so has no units to compare with those of other layers."""
        partial = [index for index in range(self.num_layers) if self.dropped_blocks(index)]
        if partial:
            raise PlanError(
                f"{self.folder}: layers {partial} lack a block; widths need attention and MLP in every layer"
            )

    def linears(self) -> dict[str, TensorEntry]:
        """Weights of the layers' linear layers, the weights that sparsity counts."""
        return {name: tensor for name, tensor in self.tensors.items() if is_linear(name)}

    def linear_parameters(self) -> int:
        return sum(tensor.numel for tensor in self.linears().values())

    def _layer_shape(self, index: int) -> LayerShape:
        sizes = self.layer_config(index)
        heads, groups, channels = (sizes[key] for key in _PER_LAYER)
        attention = self._block_size(index, "attention") if groups else 0
        mlp = self._block_size(index, "mlp") if channels else 0
        return LayerShape(heads, groups, channels, attention // max(groups, 1), mlp // max(channels, 1))

    def _block_size(self, index: int, block: str) -> int:
        """Parameters of all units of a block: all parameters except the output's bias."""
        prefix = layer_prefix(index)
        inside = {name.removeprefix(prefix): tensor for name, tensor in self._by_layer.get(index, {}).items()}
        wanted = (f"{name}.weight" for name in expected_linears(inside) if block_of_linear(name) == block)
        size = sum(self._size(prefix + name) for name in wanted)
        for name, tensor in inside.items():
            cut = None if name.endswith(".weight") else cut_of(name)
            if cut and block_of_linear(name) == block and cut.axis < len(tensor.shape):
                size += tensor.numel
        return size

    @cached_property
    def _by_layer(self) -> dict[int, dict[str, TensorEntry]]:
        layers: dict[int, dict[str, TensorEntry]] = {}
        for name, tensor in self.tensors.items():
            index, _ = component(name)
            if index is not None:
                layers.setdefault(index, {})[name] = tensor
        return layers

    def _size(self, name: str) -> int:
        try:
            return self.tensors[name].numel
        except KeyError:
            raise CheckpointError(
                f"{self.folder}: the weights lack '{name}'; config.json and checkpoint do not belong together"
            ) from None


def planned_architecture(config: Mapping[str, Any]) -> Architecture:
    """The shape of a model with this configuration, before it has weights. Leaves out biases and q/k norms."""
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    head_dim = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries, keys = (config[key] * head_dim for key in ("num_attention_heads", "num_key_value_heads"))
    channels = config["intermediate_size"]
    rows = dict(zip(LINEARS, (queries, keys, keys, hidden, channels, channels, hidden), strict=True))
    columns = dict(zip(LINEARS, (hidden, hidden, hidden, queries, hidden, hidden, channels), strict=True))
    shapes: dict[str, tuple[int, ...]] = {f"{EMBEDDING}.weight": (config["vocab_size"], hidden)}
    for index in range(layers):
        for name in LINEARS:
            shapes[f"{layer_prefix(index)}{name}.weight"] = (rows[name], columns[name])
        for norm in NORMS[0].names:
            shapes[f"{layer_prefix(index)}{norm}.weight"] = (hidden,)
    shapes[f"{FINAL_NORM}.weight"] = (hidden,)
    if not config.get("tie_word_embeddings"):
        shapes[f"{HEAD}.weight"] = (config["vocab_size"], hidden)
    nowhere = Path()
    tensors = {name: TensorEntry(name, nowhere, "F32", shape, 0, 0) for name, shape in shapes.items()}
    return Architecture(nowhere, dict(config), tensors)


def check_headers(architecture: Architecture) -> None:
    """Raise CheckpointError unless the tensors of a whole model match its config.json, by name and shape.

    The check needs no torch and covers tensors of all families: embeddings, norms and linear layers, without biases.
    It skips models that this project cut.
    """
    config = architecture.config
    cut = any(config.get(key) for key in ("per_layer_config", DROPPED, "sliced"))
    if cut or is_quantized(config) or not all(key in config for key in _PER_LAYER):
        return
    for name, planned in planned_architecture(config).tensors.items():
        stored = architecture.tensors.get(name)
        if stored is None:
            raise CheckpointError(f"{architecture.folder}: lacks '{name}'")
        if stored.shape != planned.shape:
            raise CheckpointError(
                f"{architecture.folder}: '{name}' is {list(stored.shape)}, not {list(planned.shape)} as in config.json"
            )


def check_family(config: Mapping[str, Any], place: str | os.PathLike[str]) -> str:
    """The family of a configuration.

    Raises:
        CheckpointError: for an unsupported family. Names it and the supported families.
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        architectures = ", ".join(config.get("architectures") or ["unknown"])
        hint = nearest(str(family), FAMILIES)
        raise CheckpointError(
            f"{place}: model_type '{family}' ({architectures}) is not supported{hint} "
            f"(supported: {', '.join(sorted(FAMILIES))})"
        )
    return str(family)


def is_quantized(config: Mapping[str, Any]) -> bool:
    """Whether a model's weights are stored in few bits."""
    return bool(config.get("quantization_config"))


def refuse_quantized(folder: str | os.PathLike[str]) -> None:
    """Raise PlanError for a model in few bits, which can run but cannot be cut or compared."""
    if is_quantized(read_config(folder)):
        record = Path(folder).resolve().parent / "pruning.json"
        name = str(read_json(record).get("variant", "")) if record.exists() else ""
        before = f"the model before +{name.rpartition('+')[2]}" if "+" in name else "its parent model"
        raise PlanError(f"{folder}: its weights are stored in few bits; start from {before}")


def refuse_sliced(config: Mapping[str, Any], place: str | os.PathLike[str]) -> None:
    """Raise PlanError for a sliced model: each of its layers has its own basis."""
    if config.get("sliced"):
        raise PlanError(f"{place}: its hidden dimensions are sliced already; start from the whole model")


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """config.json of a model folder with a supported family.

    Raises:
        CheckpointError: if the folder or the file is missing, or the family is not supported.
    """
    path = Path(folder) / "config.json"
    if not path.exists():
        raise CheckpointError(f"{folder}: has no config.json; name a Hugging Face model folder")
    config = read_json(path, way_out=MODEL_AGAIN)
    check_family(config, path)
    return dict(config)


def read_architecture(folder: str | os.PathLike[str]) -> Architecture:
    """Shape of the checkpoint in ``folder``, from config.json and the safetensors headers, without torch.

    Raises:
        CheckpointError: for a missing, truncated, inconsistent or unsupported checkpoint.
    """
    config = read_config(folder)
    return Architecture(Path(folder), config, read_headers(folder))


def check_finite(folder: str | os.PathLike[str]) -> None:
    """Raise CheckpointError if any weight is NaN or infinite. Names the tensor."""
    for entry in read_headers(folder).values():
        if not entry.is_finite():
            raise CheckpointError(
                f"{entry.file}: '{entry.name}' holds NaN or infinite values; this checkpoint is damaged"
            )

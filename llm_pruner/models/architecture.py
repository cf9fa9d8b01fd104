"""The supported model families, described without torch: names of modules and shapes of layers.

Llama, Mistral, Qwen2 and Qwen3 share one block layout. Their differences (biases, q/k norms, head_dim
apart from hidden/heads, sliding windows) are read from the checkpoint itself. A new family of this layout is one
entry in ``FAMILIES``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from llm_pruner.models.config_file import CONFIG_FILE, completed, read_config_file
from llm_pruner.models.foreign_json import shown
from llm_pruner.models.headers import RECOMPUTED, TensorEntry, not_finite, read_headers, read_stored, weights_place
from llm_pruner.models.layout import (
    ATTENTION_LINEARS,
    EMBEDDING,
    HEAD,
    MLP_LINEARS,
    PER_LAYER_WIDTHS,
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
from llm_pruner.models.planned import (
    TOGETHER,
    compare_shapes,
    dropped_blocks,
    head_size,
    layer_widths,
    planned_shapes,
)
from llm_pruner.system.errors import CheckpointError, PlanError, nearest
from llm_pruner.system.files import read_json

_HEAD, _EMBEDDING = f"{HEAD}.weight", f"{EMBEDDING}.weight"
_FLOATS = ("F64", "F32", "F16", "BF16")
"""Dtypes of weights that models compute with, by their names in safetensors headers."""


@dataclass(frozen=True)
class Family:
    """Facts about a model family beyond the common block layout."""

    model_class: str
    """The class of transformers that runs the family's models."""
    heads_divide_hidden: bool = False
    """Whether the configuration class refuses a number of query heads that does not divide the hidden size."""
    bias_keys: tuple[str, ...] = ()
    """Keys of config.json that together give every linear layer of the decoder layers a bias."""
    biases: Mapping[str, tuple[str, ...]] | None = None
    """Linear layers of a decoder layer that have a bias, by the key of config.json that asks for it, with an empty key
    for those that have one in any case. With None, tensors are compared with config.json only where torch is loaded."""
    head_norms: bool = False
    """Whether queries and keys are normed in each head. Used with ``biases`` alone."""
    defaults: Mapping[str, int] = field(default_factory=dict)
    """Values that the configuration class takes for keys that config.json lacks, besides one key-value head for each
    query head and a hidden size divided among the heads."""


FAMILIES: Mapping[str, Family] = {
    "llama": Family(
        "LlamaForCausalLM",
        heads_divide_hidden=True,
        bias_keys=("attention_bias", "mlp_bias"),
        biases={"attention_bias": ATTENTION_LINEARS, "mlp_bias": MLP_LINEARS},
    ),
    "mistral": Family("MistralForCausalLM", biases={}, defaults={"num_key_value_heads": 8}),
    "qwen2": Family("Qwen2ForCausalLM", biases={"": ATTENTION_LINEARS[:3]}, defaults={"num_key_value_heads": 32}),
    "qwen3": Family(
        "Qwen3ForCausalLM",
        biases={"attention_bias": ATTENTION_LINEARS},
        head_norms=True,
        defaults={"num_key_value_heads": 32, "head_dim": 128},
    ),
}
"""Families by ``model_type`` of config.json."""

MODEL_AGAIN = "get the model's folder again or, if a run made it, delete it and run again"
"""What to do about a model whose config.json is damaged; the file may be a user's own."""


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
        return head_size(self.config)

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
        return layer_widths(self.config, index)

    def dropped_blocks(self, index: int) -> tuple[str, ...]:
        """Blocks that a layer lacks: ``attention`` or ``mlp``."""
        return dropped_blocks(self.config, index)

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
        heads, groups, channels = (sizes[key] for key in PER_LAYER_WIDTHS)
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
    """The shape of a model with this configuration, before it has weights."""
    nowhere = Path()
    shapes = planned_shapes(config, FAMILIES[config["model_type"]])
    tensors = {name: TensorEntry(name, nowhere, "F32", shape, 0, 0) for name, shape in shapes.items()}
    return Architecture(nowhere, dict(config), tensors)


def check_tensors(architecture: Architecture) -> None:
    """Raise CheckpointError unless the tensors are those of config.json, by name, shape and kind of numbers.

    Names and shapes of families without described biases, and weights in few bits other than NF4, are not checked.
    """
    config, tensors, family = architecture.config, architecture.tensors, FAMILIES[architecture.family]
    packed = {entry.name for entry in tensors.values() if entry.dtype == "NF4"}
    place = weights_place(architecture.folder)
    if is_quantized(config) and not packed:
        if config["quantization_config"].get("bnb_4bit_quant_type") == "nf4":
            raise CheckpointError(
                f"{place}: holds no weights in NF4, but config.json has them in its quantization_config; {TOGETHER}"
            )
        return
    for entry in tensors.values():
        if entry.dtype not in _FLOATS and not (is_quantized(config) and entry.name in packed):
            raise CheckpointError(
                f"{entry.file}: {shown(entry.name)} is stored as {entry.dtype}, not as one of {', '.join(_FLOATS)}; "
                "store the weights in one of these, or describe the packing as quantization_config in config.json"
            )
    if architecture.num_layers > len(tensors):  # said at once, however many layers config.json asks for
        raise CheckpointError(
            f"{place}: holds {len(tensors)} tensors, but config.json asks for {shown(architecture.num_layers)} layers; "
            f"{TOGETHER}"
        )
    if family.biases is not None:
        files = {name: entry.file for name, entry in tensors.items()}
        compare_shapes(
            planned_shapes(config, family), {name: entry.shape for name, entry in tensors.items()}, place, files
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
    """config.json of a model folder with a supported family, with the values that the family takes for missing sizes.

    Raises:
        CheckpointError: if the folder or the file is missing or damaged, the family is not supported, or a value has a
            wrong type or does not fit the others.
    """
    folder = Path(folder)
    config = read_config_file(folder)
    path = folder / CONFIG_FILE
    return completed(config, path, FAMILIES[check_family(config, path)].defaults)


def read_architecture(folder: str | os.PathLike[str]) -> Architecture:
    """Shape of the checkpoint in ``folder``, from config.json and the safetensors headers, without torch.

    Every tensor is checked to be there, in the shape that config.json asks for; none is read.

    Raises:
        CheckpointError: for a missing, damaged, inconsistent or unsupported checkpoint.
    """
    config, tensors = read_config(folder), read_headers(folder)
    if config.get("tie_word_embeddings") and (copy := tensors.get(_HEAD)) and _EMBEDDING in tensors:
        # a second copy of the same weights, which transformers ties when it loads them
        compare_shapes({_HEAD: tensors[_EMBEDDING].shape}, {_HEAD: copy.shape}, copy.file)
        del tensors[_HEAD]
    architecture = Architecture(Path(folder), config, tensors)
    check_tensors(architecture)
    return architecture


def check_finite(folder: str | os.PathLike[str]) -> None:
    """Raise CheckpointError if any weight is NaN or infinite. Names the tensor. Reads every weight once."""
    for entry in read_stored(folder).values():
        if not entry.name.endswith(RECOMPUTED) and not entry.is_finite():
            raise CheckpointError(not_finite(entry.file, entry.name))


def check_tied(folder: str | os.PathLike[str]) -> bool:
    """Whether output weights are stored although config.json ties them to the embedding.

    Raises:
        CheckpointError: if they differ from the embedding. transformers would not tie them then.
    """
    tensors = read_headers(folder)
    head, embedding = tensors.get(_HEAD), tensors.get(_EMBEDDING)
    if not read_config(folder).get("tie_word_embeddings") or head is None or embedding is None:
        return False
    if head.dtype != embedding.dtype or not head.same_bits(embedding):
        raise CheckpointError(
            f"{head.file}: '{_HEAD}' differs from '{_EMBEDDING}', but config.json ties them; set tie_word_embeddings "
            f"to false in config.json, or leave '{_HEAD}' out"
        )
    return True

"""The classifier families this project knows, described without torch: names of modules and widths of layers.

DistilBERT, BERT and RoBERTa share one block: attention heads and FFN neurons behind a residual stream. A family of this
layout is one entry in ``FAMILIES``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from llm_pruner.encoders.options import BuiltinEncoder, PruningOptions
from llm_pruner.encoders.records.classifier import Removed
from llm_pruner.system.errors import CheckpointError, PlanError, nearest
from llm_pruner.system.files import read_json

WIDTHS = "layer_widths"
"""The key of config.json that gives every layer's heads and neurons: ``[{"heads": 3, "neurons": 100}, …]``."""
EIGHT_BIT = "eight_bit_modules"
"""The key of config.json that names the linear layers stored as 8-bit integers."""


@dataclass(frozen=True)
class Family:
    """Where a family keeps what this project changes; module names are within a layer."""

    model_class: str
    layers: str
    inputs: tuple[str, str, str]
    """Query, key and value."""
    attention: str
    """What holds them, and turns them into a map."""
    output: str
    """What heads are joined by."""
    ffn_input: str
    ffn_output: str
    head: str
    """The last linear module, a row for each class; named within the model."""
    keys: tuple[str, str, str, str]
    """Keys of config.json: hidden size, layers, heads, neurons."""


def _bert(name: str, title: str, head: str) -> Family:
    return Family(
        f"{title}ForSequenceClassification",
        f"{name}.encoder.layer",
        ("attention.self.query", "attention.self.key", "attention.self.value"),
        "attention.self",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
        head,
        ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    )


FAMILIES: Mapping[str, Family] = {
    "distilbert": Family(
        "DistilBertForSequenceClassification",
        "distilbert.transformer.layer",
        ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        "attention",
        "attention.out_lin",
        "ffn.lin1",
        "ffn.lin2",
        "classifier",
        ("dim", "n_layers", "n_heads", "hidden_dim"),
    ),
    "bert": _bert("bert", "Bert", "classifier"),
    "roberta": _bert("roberta", "Roberta", "classifier.out_proj"),
}
"""By ``model_type`` of config.json."""


class Widths(NamedTuple):
    """What one layer has."""

    heads: int
    neurons: int


@dataclass(frozen=True)
class Encoder:
    """A classifier's shape, read from its configuration."""

    config: Mapping[str, Any]

    @property
    def family(self) -> Family:
        return FAMILIES[self.config["model_type"]]

    @property
    def hidden_size(self) -> int:
        return int(self.config[self.family.keys[0]])

    @property
    def head_dim(self) -> int:
        return self.hidden_size // int(self.config[self.family.keys[2]])

    @property
    def layers(self) -> list[Widths]:
        """Heads and neurons of every layer."""
        _, layers, heads, neurons = (self.config[key] for key in self.family.keys)
        own = self.config.get(WIDTHS)
        return [Widths(**width) for width in own] if own else [Widths(heads, neurons)] * layers

    @property
    def head_parameters(self) -> int:
        """Rows of query, key and value with their biases, columns of the output."""
        return self.head_dim * (4 * self.hidden_size + 3)

    @property
    def neuron_parameters(self) -> int:
        """A row with its bias, and a column."""
        return 2 * self.hidden_size + 1

    @property
    def whole(self) -> Encoder:
        """What it was before anything was cut."""
        return Encoder({key: value for key, value in self.config.items() if key != WIDTHS})

    def removed(self, widths: Sequence[Widths]) -> Removed:
        """Shares of the whole model that are gone at some widths."""
        before, after = ([sum(own) for own in zip(*layers, strict=True)] for layers in (self.whole.layers, widths))
        costs = (self.head_parameters, self.neuron_parameters)
        left, every = (sum(count * cost for count, cost in zip(own, costs, strict=True)) for own in (after, before))
        return Removed(
            parameters=(every - left) / every,
            heads=(before[0] - after[0]) / before[0],
            neurons=(before[1] - after[1]) / before[1],
        )

    def linears(self, layer: int) -> list[str]:
        """Names of a layer's linear modules within the model."""
        family = self.family
        names = (*family.inputs, family.output, family.ffn_input, family.ffn_output)
        return [f"{family.layers}.{layer}.{name}" for name in names]

    @property
    def is_quantized(self) -> bool:
        """Whether weights are stored in few bits."""
        return bool(self.config.get("quantization_config") or self.config.get(EIGHT_BIT))

    @property
    def is_narrow(self) -> bool:
        """Whether it needs a class of its own."""
        return bool(self.config.get(WIDTHS) or self.config.get(EIGHT_BIT))

    def narrowed(self, widths: Sequence[Widths]) -> dict[str, Any]:
        """Its configuration with other widths; told by layer only where they are not those of the whole model."""
        whole = self.whole
        if list(widths) == whole.layers:
            return dict(whole.config)
        return {**whole.config, WIDTHS: [width._asdict() for width in widths]}


def builtin_encoder(size: BuiltinEncoder) -> Encoder:
    """The shape of the built-in teacher."""
    widths = (size.hidden_size, size.layers, size.heads, size.neurons)
    return Encoder({"model_type": "distilbert", **dict(zip(FAMILIES["distilbert"].keys, widths, strict=True))})


def read_encoder(folder: str | os.PathLike[str]) -> Encoder:
    """The shape of the classifier in ``folder``.

    Raises:
        CheckpointError: if there is no config.json, or its family is not supported.
    """
    path = Path(folder) / "config.json"
    if not path.exists():
        raise CheckpointError(f"{folder}: no config.json there; is this a Hugging Face model folder?")
    return check_encoder(read_json(path), path)


def unquantized_encoder(folder: str | os.PathLike[str]) -> Encoder:
    """The shape of a classifier whose weights are about to change.

    Raises:
        CheckpointError: as ``read_encoder``, and if its weights are stored in few bits.
    """
    encoder = read_encoder(folder)
    if encoder.is_quantized:
        raise CheckpointError(f"{folder}: quantised already; name the model that it was made from")
    return encoder


def check_encoder(config: Mapping[str, Any], place: str | os.PathLike[str]) -> Encoder:
    """The shape that a configuration describes.

    Raises:
        CheckpointError: if its family is not supported.
    """
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        raise CheckpointError(
            f"{place}: model_type '{family}' is no classifier this can compress{nearest(family, FAMILIES)} "
            f"(supported: {', '.join(sorted(FAMILIES))})"
        )
    return Encoder(config)


def check_sparsity(encoder: Encoder, options: PruningOptions) -> None:
    """Refuse what would leave a layer without a head or a neuron.

    Raises:
        PlanError: naming the option and the most that can go.
    """
    layers = len(encoder.layers)
    heads, neurons = (sum(own) for own in zip(*encoder.layers, strict=True))
    costs = (encoder.head_parameters, encoder.neuron_parameters)
    every = heads * costs[0] + neurons * costs[1]
    most = {
        "head_final_sparsity": 1 - layers / heads,
        "ffn_final_sparsity": 1 - layers / neurons,
        "final_sparsity": 1 - layers * sum(costs) / every,
    }
    for name in list(most)[:2] if options.enable_multi_granularity else list(most)[2:]:
        if getattr(options, name) > most[name]:
            asked = getattr(options, name)
            raise PlanError(
                f"{name}: {asked:g} leaves a layer without heads or neurons; at most {most[name]:.4f} can go"
            )

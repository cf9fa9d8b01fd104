"""Shapes of the supported classifiers, without torch: names of modules, and heads and neurons of each layer.

DistilBERT, BERT and RoBERTa share one layout: attention heads and FFN neurons that write into a residual stream. Each
family is one entry in ``FAMILIES``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from llm_pruner.encoders.options import BuiltinEncoder, PruningOptions
from llm_pruner.encoders.records.classifier import Removed
from llm_pruner.models.architecture import MODEL_AGAIN
from llm_pruner.system.errors import CheckpointError, PlanError, nearest
from llm_pruner.system.files import read_json

WIDTHS = "layer_widths"
"""Key of config.json for the heads and neurons of each layer: ``[{"heads": 3, "neurons": 100}, …]``."""
EIGHT_BIT = "eight_bit_modules"
"""Key of config.json for the names of the linear layers stored as 8-bit integers."""


@dataclass(frozen=True)
class Family:
    """Names of a family's modules and configuration keys. Names are relative to a layer unless stated otherwise."""

    model_class: str
    layers: str
    """List of layers, relative to the model."""
    inputs: tuple[str, str, str]
    """Query, key and value."""
    attention: str
    """Parent module of query, key and value."""
    output: str
    """Linear module that joins the heads."""
    ffn_input: str
    ffn_output: str
    head: str
    """Last linear module, with one row per class; relative to the model."""
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
"""Supported families, by ``model_type`` of config.json."""


class Widths(NamedTuple):
    """Number of attention heads and of FFN neurons of one layer."""

    heads: int
    neurons: int


@dataclass(frozen=True)
class EncoderShape:
    """A classifier's shape, read from its configuration."""

    config: Mapping[str, Any]

    @property
    def family(self) -> Family:
        return FAMILIES[self.config["model_type"]]

    @property
    def hidden_size(self) -> int:
        """Size of the residual stream."""
        return int(self.config[self.family.keys[0]])

    @property
    def head_dim(self) -> int:
        """Size of one attention head; pruning heads leaves it unchanged."""
        return self.hidden_size // int(self.config[self.family.keys[2]])

    @property
    def layers(self) -> list[Widths]:
        """Heads and neurons of each layer."""
        _, layers, heads, neurons = (self.config[key] for key in self.family.keys)
        own = self.config.get(WIDTHS)
        return [Widths(**width) for width in own] if own else [Widths(heads, neurons)] * layers

    @property
    def head_parameters(self) -> int:
        """Parameters of one head: rows and biases of query, key and value, and columns of the output."""
        return self.head_dim * (4 * self.hidden_size + 3)

    @property
    def neuron_parameters(self) -> int:
        """Parameters of one neuron: a row with its bias, and a column."""
        return 2 * self.hidden_size + 1

    @property
    def whole(self) -> EncoderShape:
        """The shape before any pruning."""
        return EncoderShape({key: value for key, value in self.config.items() if key != WIDTHS})

    def removed(self, widths: Sequence[Widths]) -> Removed:
        """Shares of the whole model that are missing if its layers have these ``widths``."""
        before, after = ([sum(own) for own in zip(*layers, strict=True)] for layers in (self.whole.layers, widths))
        costs = (self.head_parameters, self.neuron_parameters)
        left, every = (sum(count * cost for count, cost in zip(own, costs, strict=True)) for own in (after, before))
        return Removed(
            parameters=(every - left) / every,
            heads=(before[0] - after[0]) / before[0],
            neurons=(before[1] - after[1]) / before[1],
        )

    def linears(self, layer: int) -> list[str]:
        """Names of a layer's linear modules, relative to the model."""
        family = self.family
        names = (*family.inputs, family.output, family.ffn_input, family.ffn_output)
        return [f"{family.layers}.{layer}.{name}" for name in names]

    @property
    def is_quantized(self) -> bool:
        """Whether weights are stored in 4 or 8 bits."""
        return bool(self.config.get("quantization_config") or self.config.get(EIGHT_BIT))

    @property
    def is_narrow(self) -> bool:
        """Whether the shape needs the modelling file ``narrow.py``, as transformers has no class for it."""
        return bool(self.config.get(WIDTHS) or self.config.get(EIGHT_BIT))

    def narrowed(self, widths: Sequence[Widths]) -> dict[str, Any]:
        """Configuration with other ``widths``; lists them by layer only if they differ from the whole model's."""
        whole = self.whole
        if list(widths) == whole.layers:
            return dict(whole.config)
        return {**whole.config, WIDTHS: [width._asdict() for width in widths]}


def builtin_shape(size: BuiltinEncoder) -> EncoderShape:
    """Shape of the built-in teacher."""
    widths = (size.hidden_size, size.layers, size.heads, size.neurons)
    return EncoderShape({"model_type": "distilbert", **dict(zip(FAMILIES["distilbert"].keys, widths, strict=True))})


def read_shape(folder: str | os.PathLike[str]) -> EncoderShape:
    """Read the shape of the classifier in ``folder``.

    Raises:
        CheckpointError: if ``folder`` has no config.json, or the family is not supported.
    """
    path = Path(folder) / "config.json"
    if not path.exists():
        raise CheckpointError(f"{folder}: no config.json; name a Hugging Face model folder")
    return shape_of(read_json(path, way_out=MODEL_AGAIN), path)


def unquantized_shape(folder: str | os.PathLike[str]) -> EncoderShape:
    """Read the shape of a classifier to be pruned, trained or quantised.

    Raises:
        CheckpointError: as ``read_shape``, and if the weights are quantised already.
    """
    shape = read_shape(folder)
    if shape.is_quantized:
        raise CheckpointError(f"{folder}: weights are quantised already; name the model before quantisation")
    return shape


def shape_of(config: Mapping[str, Any], place: str | os.PathLike[str]) -> EncoderShape:
    """Shape described by a configuration.

    Args:
        config: content of config.json.
        place: folder, file or model id, for error messages.

    Raises:
        CheckpointError: if the family is not supported.
    """
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        raise CheckpointError(
            f"{place}: model_type '{family}' is not a supported classifier{nearest(family, FAMILIES)} "
            f"(supported: {', '.join(sorted(FAMILIES))})"
        )
    return EncoderShape(config)


def check_pruned_share(shape: EncoderShape, options: PruningOptions) -> None:
    """Refuse a pruned share so large that a layer would lose its last head or neuron.

    Raises:
        PlanError: with the option and its largest possible value.
    """
    layers = len(shape.layers)
    heads, neurons = (sum(own) for own in zip(*shape.layers, strict=True))
    costs = (shape.head_parameters, shape.neuron_parameters)
    every = heads * costs[0] + neurons * costs[1]
    most = {
        "head_final_sparsity": 1 - layers / heads,
        "ffn_final_sparsity": 1 - layers / neurons,
        "final_sparsity": 1 - layers * sum(costs) / every,
    }
    for name in list(most)[:2] if options.enable_multi_granularity else list(most)[2:]:
        if getattr(options, name) > most[name]:
            asked = getattr(options, name)
            raise PlanError(f"{name}: {asked:g} leaves a layer without heads or neurons; use at most {most[name]:.4f}")

"""The shape of a model whose blocks end with a bias."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from llm_pruner.models.architecture import FAMILIES, Architecture
from llm_pruner.models.headers import TensorEntry
from llm_pruner.models.layout import ADDED_BIASES, component, cut_of, layer_prefix


def with_output_biases(architecture: Architecture) -> Architecture:
    """The same shape with a bias at every linear layer that writes the residual stream; itself where all have one.

    A family whose configuration knows biases gets them by its keys, which give every other linear layer one too. Of any
    other, config.json names them, and the model travels with the file of this package that runs it.
    """
    linears = [name.removesuffix(".weight") for name in architecture.linears()]
    missing = _without_bias(architecture, (name for name in linears if (cut := cut_of(name)) and cut.axis == 1))
    if not missing:
        return architecture
    config = dict(architecture.config)
    if keys := FAMILIES[architecture.family].bias_keys:
        config |= dict.fromkeys(keys, True)
        missing = _without_bias(architecture, linears)
    else:
        config[ADDED_BIASES] = sorted({*config.get(ADDED_BIASES, ()), *map(_within_layer, missing)})
    tensors = dict(architecture.tensors)
    for name in missing:
        weight = tensors[f"{name}.weight"]
        tensors[f"{name}.bias"] = TensorEntry(f"{name}.bias", Path(), weight.dtype, weight.shape[:1], 0, 0)
    return replace(architecture, config=config, tensors=tensors)


def _without_bias(architecture: Architecture, linears: Iterable[str]) -> list[str]:
    return [name for name in linears if f"{name}.bias" not in architecture.tensors]


def _within_layer(name: str) -> str:
    index, _ = component(name)
    assert index is not None
    return name.removeprefix(layer_prefix(index))

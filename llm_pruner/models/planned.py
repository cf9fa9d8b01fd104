"""Names and shapes of a model's tensors, from its config.json alone and without torch."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.models.foreign_json import shown
from llm_pruner.models.layout import (
    ADDED_BIASES,
    ATTENTION,
    BLOCKS,
    DROPPED,
    EMBEDDING,
    FINAL_NORM,
    HEAD,
    LINEARS,
    NORMS,
    PER_LAYER_WIDTHS,
    SHORTCUTS,
    block_of_linear,
    layer_prefix,
)
from llm_pruner.system.errors import CheckpointError

if TYPE_CHECKING:
    from llm_pruner.models.architecture import Family

Shapes = Mapping[str, tuple[int, ...]]

TOGETHER = "config.json and weights do not belong together, or a copy is not whole: copy or download both again"
"""The way out of tensors that are not those of config.json."""


def planned_shapes(config: Mapping[str, Any], family: Family) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that a checkpoint with this configuration stores, by name.

    Covers whole models, models whose layers differ and sliced models. A tied output embedding is left out. If the
    biases of the family are not described, biases and norms of heads are left out too.

    Args:
        config: config.json with all sizes, as ``read_config`` gives it.
    """
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    sliced = config.get("sliced")
    widths = sliced["widths"] if sliced else [hidden] * (2 * layers + 1)
    shapes: dict[str, tuple[int, ...]] = {f"{EMBEDDING}.weight": (config["vocab_size"], widths[0])}
    for index in range(layers):
        stream = (widths[2 * index], widths[2 * index + 1], widths[2 * index + 2])
        for name, shape in _layer(config, family, index, stream):
            shapes[layer_prefix(index) + name] = shape
    if not sliced:
        shapes[f"{FINAL_NORM}.weight"] = (hidden,)
    if not config.get("tie_word_embeddings"):
        shapes[f"{HEAD}.weight"] = (config["vocab_size"], widths[-1])
    return shapes


def compare_shapes(
    expected: Shapes,
    stored: Shapes,
    place: str | os.PathLike[str],
    files: Mapping[str, Path] | None = None,
    optional: Collection[str] = (),
) -> None:
    """Raise CheckpointError unless the stored tensors are the expected ones. Names the first difference.

    Args:
        place: the checkpoint, for messages.
        files: the file of each stored tensor, if known.
        optional: expected tensors that may be missing.
    """
    files = files or {}
    problems = [
        f"{place}: lacks '{name}', {list(shape)} by config.json"
        for name, shape in expected.items()
        if name not in stored and name not in optional
    ]
    problems += [
        f"{files.get(name, place)}: holds {shown(name)}, which config.json does not describe"
        for name in stored
        if name not in expected
    ]
    problems += [
        f"{files.get(name, place)}: '{name}' is {list(shape)}, but config.json asks for {list(expected[name])}"
        for name, shape in stored.items()
        if name in expected and shape != expected[name]
    ]
    if problems:
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise CheckpointError(f"{problems[0]}{more}; {TOGETHER}")


def layer_widths(config: Mapping[str, Any], index: int) -> dict[str, int]:
    """Heads, key-value heads and MLP width of one layer; 0 for those of a block that the layer lacks."""
    overrides = config.get("per_layer_config") or {}
    # keys are numbers in a loaded model
    own = overrides.get(str(index)) or overrides.get(index) or {}
    widths = {key: int(own.get(key, config[key])) for key in PER_LAYER_WIDTHS}
    dropped = dropped_blocks(config, index)
    if "attention" in dropped:
        widths |= {"num_attention_heads": 0, "num_key_value_heads": 0}
    if "mlp" in dropped:
        widths |= {"intermediate_size": 0}
    return widths


def dropped_blocks(config: Mapping[str, Any], index: int) -> tuple[str, ...]:
    """Blocks that a layer lacks: ``attention`` or ``mlp``."""
    dropped = config.get(DROPPED) or {}
    return tuple(block for block in BLOCKS if index in dropped.get(block, ()))


def head_size(config: Mapping[str, Any]) -> int:
    """Size of one attention head."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _layer(
    config: Mapping[str, Any], family: Family, index: int, stream: tuple[int, int, int]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes within a layer; ``stream`` has the residual widths before, between and after its blocks."""
    enter, middle, leave = stream
    heads, groups, channels = layer_widths(config, index).values()
    head_dim, dropped = head_size(config), dropped_blocks(config, index)
    queries, keys = heads * head_dim, groups * head_dim
    rows = (queries, keys, keys, middle, channels, channels, leave)
    columns = (enter, enter, enter, queries, middle, middle, channels)
    biased = _biased(config, family)
    for name, out, into in zip(LINEARS, rows, columns, strict=True):
        if block_of_linear(name) not in dropped:
            yield f"{name}.weight", (out, into)
            if name in biased:
                yield f"{name}.bias", (out,)
    if family.head_norms and "attention" not in dropped:
        yield from ((f"{ATTENTION}.{norm}.weight", (head_dim,)) for norm in ("q_norm", "k_norm"))
    if config.get("sliced"):
        yield from zip((f"{name}.weight" for name in SHORTCUTS), ((middle, enter), (leave, middle)), strict=True)
        return
    for norm in NORMS[0].names:
        if NORMS[0].block(norm) not in dropped:
            yield f"{norm}.weight", (config["hidden_size"],)


def _biased(config: Mapping[str, Any], family: Family) -> set[str]:
    """Linear layers that have a bias, by their names within a layer."""
    own = [names for key, names in (family.biases or {}).items() if not key or config.get(key)]
    return {*(name for names in own for name in names), *(config.get(ADDED_BIASES) or ())}

"""Names of a causal model's parameters and modules, and their rows or columns by unit. Imports no torch.

All such names stand in this module. Names of checkpoints are looked up in ``CUTS`` and ``NORMS``. The names that are
present tell the parts of a layer, so a family with a known layout needs no entry here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llm_pruner.system.errors import CheckpointError

EMBEDDING = "model.embed_tokens"
FINAL_NORM = "model.norm"
HEAD = "lm_head"
_LAYERS = "model.layers"

BLOCKS = ("attention", "mlp")
"""The two blocks of a decoder layer, each with its own norms; a layer may lack one block."""
ATTENTION, MLP = "self_attn", "mlp"
"""The modules of the two blocks within a layer."""
SHORTCUTS = ("attn_shortcut", "mlp_shortcut")
"""Matrices of sliced models that carry the residual stream from one basis to the next."""

PER_LAYER_LISTS = ("layer_types", "no_rope_layers", "mlp_layer_types")
"""Keys of config.json with a list that has an entry for each layer."""
PER_LAYER_WIDTHS = ("num_attention_heads", "num_key_value_heads", "intermediate_size")
"""Keys of config.json, and of an entry of its ``per_layer_config``, with the widths of a layer's blocks."""
DROPPED = "dropped_blocks"
"""The key of config.json with the layers that lack a block: ``{"attention": [2, 3]}``."""
ADDED_BIASES = "added_biases"
"""The key of config.json with the linear layers, within every decoder layer, that have a bias which the family's own
class lacks: ``["mlp.down_proj"]``."""

Unit = Literal["query", "key_value", "head", "channel"]


@dataclass(frozen=True)
class Cut:
    """The rows or columns of a weight that belong to units."""

    axis: int
    """0: rows, which write the units; 1: columns, which read the units."""
    segments: tuple[Unit, ...]
    """Segments along the axis, in order. ``query`` and ``key_value`` have ``head_dim`` entries for each query or
    key-value head, ``head`` has one entry for each query head, ``channel`` one for each MLP channel."""


CUTS: Mapping[str, Cut] = {
    "q_proj": Cut(0, ("query",)),
    "k_proj": Cut(0, ("key_value",)),
    "v_proj": Cut(0, ("key_value",)),
    "qkv_proj": Cut(0, ("query", "key_value", "key_value")),
    "o_proj": Cut(1, ("query",)),
    "sinks": Cut(0, ("head",)),
    "gate_proj": Cut(0, ("channel",)),
    "up_proj": Cut(0, ("channel",)),
    "gate_up_proj": Cut(0, ("channel", "channel")),
    "down_proj": Cut(1, ("channel",)),
}
"""Cuts by the last part of a name within a layer, before ``weight`` or ``bias``. All other parameters stay whole."""

_FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
"""Fused matrices, with the matrices that each contains."""


def _linear(block: str, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{block}.{name}" for name in names)


ATTENTION_LINEARS = _linear(ATTENTION, ("q_proj", "k_proj", "v_proj", "o_proj"))
MLP_LINEARS = _linear(MLP, ("gate_proj", "up_proj", "down_proj"))
LINEARS = (*ATTENTION_LINEARS, *MLP_LINEARS)
"""The linear layers of a decoder layer without fused matrices, by their names within the layer."""
_ALL_LINEARS = frozenset((*LINEARS, *_linear(ATTENTION, ("qkv_proj",)), *_linear(MLP, ("gate_up_proj",))))


@dataclass(frozen=True)
class NormLayout:
    """The arrangement of a decoder layer's norms. Names are within the layer."""

    attention: tuple[str, ...]
    """Norms that belong to the attention block and are removed with it."""
    mlp: tuple[str, ...]
    between: str
    """The module that reads the residual stream between the two blocks."""
    rotatable: bool
    """Whether every norm is followed by linear layers that can absorb its gain."""

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.attention, *self.mlp)

    def block(self, part: str) -> str | None:
        """The block of a part of the layer; None for a part of neither block."""
        if part == ATTENTION or part in self.attention:
            return "attention"
        return "mlp" if part == MLP or part in self.mlp else None


NORMS: tuple[NormLayout, ...] = (
    # Llama: before each block
    NormLayout(("input_layernorm",), ("post_attention_layernorm",), "post_attention_layernorm", True),
    # OLMo 2: after each block
    NormLayout(("post_attention_layernorm",), ("post_feedforward_layernorm",), MLP, False),
    # Gemma 2: before and after each block
    NormLayout(
        ("input_layernorm", "post_attention_layernorm"),
        ("pre_feedforward_layernorm", "post_feedforward_layernorm"),
        "pre_feedforward_layernorm",
        False,
    ),
    # GLM 4: as Gemma 2, under other names
    NormLayout(
        ("input_layernorm", "post_self_attn_layernorm"),
        ("post_attention_layernorm", "post_mlp_layernorm"),
        "post_attention_layernorm",
        False,
    ),
)
"""Known arrangements, simplest first. A name has different roles in them, so only all names together tell which."""


def norm_layout(parts: Iterable[str]) -> NormLayout:
    """The arrangement of the norms of decoder layers, by the names of their parts.

    Args:
        parts: parts of one layer, or of several layers together if some lack a block.

    Raises:
        CheckpointError: if the norms have no known arrangement.

    >>> norm_layout(["self_attn", "mlp", "input_layernorm", "post_attention_layernorm"]).between
    'post_attention_layernorm'
    >>> norm_layout(["self_attn", "mlp", "post_attention_layernorm", "post_feedforward_layernorm"]).between
    'mlp'
    """
    norms = {part for part in parts if "dropout" not in part} - {ATTENTION, MLP, *SHORTCUTS}
    for layout in NORMS:
        if norms <= set(layout.names):
            return layout
    raise CheckpointError(f"decoder layers with {', '.join(sorted(norms))} have no supported arrangement of norms")


def layer_norms(parameters: Iterable[str]) -> NormLayout:
    """The arrangement of the norms of a model's decoder layers, by the names of the model's parameters.

    Raises:
        CheckpointError: if the norms have no known arrangement.
    """
    return norm_layout({match.group(2) for name in parameters if (match := _LAYER.match(name))})


def cut_of(parameter: str) -> Cut | None:
    """The cut of a parameter or a linear layer, by its name within a layer or the model; None if it stays whole.

    >>> cut_of("model.layers.3.mlp.down_proj.weight")
    Cut(axis=1, segments=('channel',))
    >>> cut_of("self_attn.q_norm.weight") is None
    True
    """
    parts = parameter.split(".")
    if parts[-1] in ("weight", "bias") and len(parts) > 1:
        parts.pop()
    return CUTS.get(parts[-1])


def kept_indices(
    cut: Cut,
    groups: Sequence[int],
    channels: Sequence[int],
    *,
    heads_per_group: int,
    head_dim: int,
    sizes: Sequence[int],
) -> list[int]:
    """Indices along a cut's axis that belong to the kept units.

    Query heads are contiguous within their key-value group: group g owns heads g·n … g·n+n−1.

    Args:
        groups, channels: kept groups and channels, ascending.
        sizes: sizes of the segments, from ``segment_sizes``.
    """
    kept: list[int] = []
    start = 0
    for segment, size in zip(cut.segments, sizes, strict=True):
        units = channels if segment == "channel" else groups
        width = unit_width(segment, heads_per_group, head_dim)
        kept += [start + index for index in expand(units, width)]
        start += size
    return kept


def segment_sizes(cut: Cut, groups: int, channels: int, *, heads_per_group: int, head_dim: int) -> list[int]:
    """Lengths of a cut's segments in a layer with ``groups`` key-value groups and ``channels`` channels."""
    return [
        (channels if segment == "channel" else groups) * unit_width(segment, heads_per_group, head_dim)
        for segment in cut.segments
    ]


def unit_width(segment: Unit, heads_per_group: int, head_dim: int) -> int:
    """Length of a segment for each key-value group, or for each channel."""
    return {
        "query": heads_per_group * head_dim,
        "key_value": head_dim,
        "head": heads_per_group,
        "channel": 1,
    }[segment]


def expand(units: Sequence[int], width: int) -> list[int]:
    """Indices of the rows that belong to units of ``width`` consecutive rows each.

    >>> expand([0, 2], 2)
    [0, 1, 4, 5]
    """
    return [unit * width + offset for unit in units for offset in range(width)]


def linears_among(parameters: Collection[str]) -> tuple[str, ...]:
    """The linear layers of a decoder layer with these parameters. Names are within the layer."""
    return tuple(name for name in expected_linears(parameters) if f"{name}.weight" in parameters)


def expected_linears(parameters: Collection[str]) -> tuple[str, ...]:
    """The linear layers of a whole decoder layer: ``LINEARS``, with matrices fused as in these parameters."""
    names = dict.fromkeys(LINEARS)
    for fused, parts in _FUSED.items():
        block = ATTENTION if parts[0] == "q_proj" else MLP
        if f"{block}.{fused}.weight" in parameters:
            merged = {f"{block}.{part}": f"{block}.{fused}" for part in parts}
            names = dict.fromkeys(merged.get(name, name) for name in names)
    return tuple(names)


def is_linear(parameter: str) -> bool:
    """Whether a parameter of the model is the weight of a linear layer within a decoder layer.

    >>> is_linear("model.layers.0.self_attn.q_proj.weight"), is_linear("lm_head.weight")
    (True, False)
    """
    match = _LAYER.match(parameter)
    if not match:
        return False
    inner, _, kind = parameter.removeprefix(layer_prefix(int(match.group(1)))).rpartition(".")
    return kind == "weight" and inner in _ALL_LINEARS


def output_linears(names: Iterable[str]) -> dict[str, str]:
    """The linear layers of a layer that write the residual stream, by block."""
    return {block_of_linear(name): name for name in names if (cut := cut_of(name)) and cut.axis == 1}


def block_of_linear(name: str) -> str:
    """The block of a linear layer, by its name within the layer."""
    return "attention" if name.startswith(f"{ATTENTION}.") else "mlp"


def backbone(model: Any) -> Any:
    """The module of a loaded causal model that holds embedding, layers and final norm."""
    return model.model


def decoder_layers(model: Any) -> Any:
    """The decoder layers of a loaded causal model, as a module list."""
    return backbone(model).layers


def layer_prefix(index: int) -> str:
    """The prefix of the names of a decoder layer's parameters."""
    return f"{_LAYERS}.{index}."


_LAYER = re.compile(rf"^{re.escape(_LAYERS)}\.(\d+)\.(\w+)")
_COMPONENTS = {ATTENTION: "attention", MLP: "mlp", **dict.fromkeys(SHORTCUTS, "shortcut")}


def part_of(parameter: str) -> str | None:
    """The part of its layer that holds a parameter, such as ``self_attn``; None outside the layers."""
    match = _LAYER.match(parameter)
    return match.group(2) if match else None


def component(parameter: str) -> tuple[int | None, str]:
    """The layer of a parameter (None outside the layers) and its part of the model.

    >>> component("model.layers.3.self_attn.q_proj.weight")
    (3, 'attention')
    >>> component("model.embed_tokens.weight")
    (None, 'embedding')
    """
    match = _LAYER.match(parameter)
    if match:
        return int(match.group(1)), _COMPONENTS.get(match.group(2), "norm")
    outside = {f"{EMBEDDING}.weight": "embedding", f"{HEAD}.weight": "lm_head", f"{FINAL_NORM}.weight": "norm"}
    return None, outside.get(parameter, "other")

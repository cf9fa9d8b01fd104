"""Every model family made small: one row each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

VOCABULARY = 97
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


@dataclass(frozen=True)
class TinyFamily:
    """What the names of a family's classes begin with in transformers, and what its configuration has of its own."""

    prefix: str
    own: dict[str, Any]


# what sets the families apart: biases, head_dim apart from hidden/heads, sliding windows, q/k norms, tied embeddings
FAMILIES = {
    "llama": TinyFamily("Llama", {"head_dim": 6, "attention_bias": True, "mlp_bias": True}),
    "mistral": TinyFamily("Mistral", {"head_dim": 4, "sliding_window": 8}),
    "qwen2": TinyFamily("Qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}),
    "qwen3": TinyFamily("Qwen3", {"head_dim": 8, "tie_word_embeddings": True}),
}


def in_turn(cases: Sequence[Any]) -> list[tuple[Any, str]]:
    """Cases that all treat families alike: the first on every family, each of the others on two in turn."""
    (first, *others), families = cases, list(FAMILIES)
    turns = itertools.cycle(families)
    return [(first, family) for family in families] + [(case, next(turns)) for case in others for _ in range(2)]

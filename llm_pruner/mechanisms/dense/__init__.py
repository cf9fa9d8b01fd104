"""The base model as a variant: nothing is removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_pruner.mechanisms.base import Amount, Mechanism


class Dense(Mechanism):
    """Removes nothing."""

    name = "dense"
    suffix = ""
    examples = ("",)
    asks = "nothing"
    structures = ()
    prune_with = "llm_pruner.mechanisms.dense.prune"

    def unit(self, options: Mapping[str, Any]) -> None:
        return None

    def read(self, suffix: str) -> Amount:
        return Amount(self.name, 0.0)

    def write(self, structure: str, amount: float | None) -> str:
        return ""

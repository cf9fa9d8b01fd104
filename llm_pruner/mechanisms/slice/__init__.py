"""Slicing: dimensions of the residual stream are removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llm_pruner.mechanisms.base import RATIO, Mechanism
from llm_pruner.mechanisms.slice.check import check
from llm_pruner.mechanisms.slice.options import SliceOptions

if TYPE_CHECKING:
    from llm_pruner.models.architecture import Architecture
    from llm_pruner.variants.variant import Variant


class Slice(Mechanism):
    """Removes dimensions of the residual stream, after a rotation."""

    name = "slice"
    suffix = RATIO
    examples = ("_2000",)
    structures = ("slice",)
    prune_with = "llm_pruner.mechanisms.slice.prune"
    Options = SliceOptions

    def unit(self, options: Mapping[str, Any]) -> str:
        return str(options.get("of", "hidden"))

    def describe(self, amount: float, unit: str) -> str:
        share = super().describe(amount, unit)
        return f"{share} hidden" if unit == "hidden" else share

    def check(self, variant: Variant, architecture: Architecture, tokens: int | None = None) -> None:
        check(variant, architecture, tokens)

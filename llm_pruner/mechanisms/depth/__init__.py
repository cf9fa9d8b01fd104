"""Depth pruning: whole layers are removed, or their attention or MLP blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llm_pruner.mechanisms.base import RATIO, Amount, Mechanism, read_number, read_ratio, write_ratio
from llm_pruner.mechanisms.depth.check import check
from llm_pruner.mechanisms.depth.options import DROPS, DepthOptions
from llm_pruner.mechanisms.depth.records import LayerScoresFile
from llm_pruner.models.architecture import refuse_sliced
from llm_pruner.system.errors import ConfigError

if TYPE_CHECKING:
    from llm_pruner.models.architecture import Architecture
    from llm_pruner.variants.variant import Variant


class Depth(Mechanism):
    """Removes whole layers, or their attention or MLP blocks."""

    name = "depth"
    suffix = rf"remove_\d+|{RATIO}"
    reserved = ("remove",)
    examples = ("_remove_2", "_2000")
    asks = "number"
    structures = ("depth",)
    ranks_layers = True
    score_with = "llm_pruner.mechanisms.depth.score"
    Scores = LayerScoresFile
    prune_with = "llm_pruner.mechanisms.depth.prune"
    Options = DepthOptions

    def unit(self, options: Mapping[str, Any]) -> str:
        return "parameters" if options.get("of") == "parameters" else DROPS[options.get("drop", "layer")]

    def describe(self, amount: float, unit: str) -> str:
        if unit == "parameters":
            return super().describe(amount, unit)
        return f"{amount:g} {unit if amount != 1 else unit.removesuffix('s')}"

    def read(self, suffix: str) -> Amount:
        if not suffix.startswith("remove_"):
            return Amount(self.name, read_ratio(suffix), "parameters")
        count = read_number(suffix.removeprefix("remove_"))
        if count == 0:
            raise ConfigError(["removes no layer; write Dense instead"])
        return Amount(self.name, count, "layers")

    def write(self, structure: str, amount: float | None) -> str:
        if amount is None:
            raise ConfigError(["a number of layers or a ratio is needed, such as 2"])
        return f"_{write_ratio(amount)}" if 0 < amount < 1 else f"_remove_{amount:g}"

    def check(self, variant: Variant, architecture: Architecture, tokens: int | None = None) -> None:
        refuse_sliced(architecture.config, architecture.folder)
        check(variant, architecture)

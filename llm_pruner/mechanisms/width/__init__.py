"""Width pruning: whole key-value groups with their query heads, and MLP channels, are removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llm_pruner.mechanisms.base import RATIO, Mechanism
from llm_pruner.mechanisms.width.options import WidthOptions
from llm_pruner.mechanisms.width.plan import check_ratio
from llm_pruner.mechanisms.width.records import GroupScoresFile
from llm_pruner.models.architecture import refuse_sliced
from llm_pruner.planning.allocations.choice import UNIFORM

if TYPE_CHECKING:
    from llm_pruner.models.architecture import Architecture
    from llm_pruner.variants.variant import Variant


class Width(Mechanism):
    """Removes whole key-value groups with their query heads, and MLP channels."""

    name = "width"
    suffix = RATIO
    examples = ("_2000",)
    structures = ("width",)
    thins_layers = True
    score_with = "llm_pruner.mechanisms.width.score"
    Scores = GroupScoresFile
    prune_with = "llm_pruner.mechanisms.width.prune"
    Options = WidthOptions

    def unit(self, options: Mapping[str, Any]) -> str:
        return "parameters"

    def check(self, variant: Variant, architecture: Architecture, tokens: int | None = None) -> None:
        refuse_sliced(architecture.config, architecture.folder)
        check_ratio(architecture, variant.amount, WidthOptions(**variant.options))

    def varies(self, options: Mapping[str, Any]) -> bool:
        return options.get("allocation") != UNIFORM or bool(
            options.get("layer_range") or options.get("freeze_top_layers")
        )

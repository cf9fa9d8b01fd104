"""The plan of a width variant, from its scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_pruner.mechanisms.width.options import SEARCH, WidthOptions
from llm_pruner.planning.allocation import GroupScores, allocate
from llm_pruner.planning.plan import Plan

if TYPE_CHECKING:
    from llm_pruner.models.architecture import Architecture
    from llm_pruner.variants.variant import Variant


def plan_width(
    architecture: Architecture,
    variant: Variant,
    scores: list[dict[str, Any]],
    importance: list[dict[str, Any]] | None,
    split: str | None = None,
) -> Plan:
    """The plan of a variant, given scores of groups and, where its options ask for it, of layers.

    Args:
        split: attention : MLP shares that a search found, in place of the variant's own.
    """
    options = WidthOptions(**variant.options)
    if options.split == SEARCH:
        options = options.model_copy(update={"split": split})
    return allocate(
        architecture,
        [GroupScores(entry["attention"], entry["mlp"]) for entry in scores],
        variant.amount,
        options,
        [entry["score"] for entry in importance] if importance else None,
    )

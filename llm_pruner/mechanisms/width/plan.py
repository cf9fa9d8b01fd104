"""The plan of a width variant, from its scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.mechanisms.depth.records import LayerScoresFile
from llm_pruner.mechanisms.records import ScoresFile
from llm_pruner.mechanisms.width.options import SEARCH, WidthOptions
from llm_pruner.mechanisms.width.records import GroupScoresFile
from llm_pruner.planning.allocation import GroupScores, allocate
from llm_pruner.planning.plan import Plan

if TYPE_CHECKING:
    from llm_pruner.models.architecture import Architecture
    from llm_pruner.variants.variant import Variant


def plan_width(
    architecture: Architecture,
    variant: Variant,
    scores: ScoresFile | None,
    importance: ScoresFile | None,
    split: str | None = None,
) -> Plan:
    """The plan of a variant, given scores of groups and, where its options ask for it, of layers.

    Args:
        split: attention : MLP shares that a search found, in place of the variant's own.
    """
    assert isinstance(scores, GroupScoresFile)
    assert importance is None or isinstance(importance, LayerScoresFile)
    options = WidthOptions(**variant.options)
    if options.split == SEARCH:
        options = options.model_copy(update={"split": split})
    return allocate(
        architecture,
        [GroupScores(entry.attention, entry.mlp) for entry in scores.layers],
        variant.amount,
        options,
        [entry.score for entry in importance.layers] if importance else None,
    )

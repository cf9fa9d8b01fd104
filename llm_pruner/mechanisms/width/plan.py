"""Plans of width variants, made from scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from llm_pruner.mechanisms.depth.records import LayerScoresFile
from llm_pruner.mechanisms.records import ScoresFile
from llm_pruner.mechanisms.width.options import SEARCH, WidthOptions
from llm_pruner.mechanisms.width.records import GroupScoresFile
from llm_pruner.models.biases import with_output_biases
from llm_pruner.models.layout import ADDED_BIASES
from llm_pruner.planning.budget import GroupScores, Limits, check_reachable, check_scores, plan_units
from llm_pruner.planning.plan import Plan
from llm_pruner.system.errors import PlanError

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
    """Make the plan of a variant.

    Biases that a repair adds count against the budget: the finished model is smaller than the base by the variant's
    amount.

    Args:
        architecture: shape of the base model.
        variant: variant to make.
        scores: scores of the units.
        importance: scores of the layers; None if the options need none.
        split: shares of the budget for attention and MLP that a search found.

    Raises:
        PlanError: if the scores do not fit the model, or the options do not allow the amount.
    """
    assert isinstance(scores, GroupScoresFile)
    assert importance is None or isinstance(importance, LayerScoresFile)
    options = WidthOptions(**variant.options)
    if options.split == SEARCH:
        options = options.model_copy(update={"split": split})
    whole = before_cut(architecture, options)
    return allocate(
        whole,
        [GroupScores(entry.attention, entry.mlp) for entry in scores.layers],
        _share_of(whole, architecture, variant.amount),
        options,
        [entry.score for entry in importance.layers] if importance else None,
    )


def allocate(
    architecture: Architecture,
    scores: Sequence[GroupScores],
    ratio: float,
    options: WidthOptions | None = None,
    importance: Sequence[float] | None = None,
) -> Plan:
    """Plan to remove ``ratio`` of all the model's parameters, shared between layers as the options say.

    Args:
        architecture: shape of the base model.
        scores: one entry for each layer; higher is more important.
        ratio: share of the whole model's parameters, 0 < ratio < 1.
        options: options of width pruning.
        importance: importance of each layer, on any scale; None if the options need none.

    Raises:
        PlanError: if scores do not fit the model or are not finite, or if the options do not allow the ratio.
    """
    options = options or WidthOptions()
    num_layers = architecture.num_layers
    finite = importance is not None and all(map(math.isfinite, importance))
    if options.ranking and (importance is None or len(importance) != num_layers or not finite):
        raise PlanError(
            f"the allocation needs a finite importance for each of the {num_layers} layers, not "
            f"{importance if importance is None else list(importance)}"
        )
    sharing = options.sharing
    targets = sharing.targets(ratio, num_layers, importance)
    limits = _limits(options, num_layers, importance)
    if not sharing.ranks_units:
        return plan_units(architecture, scores, ratio, targets, limits)
    check_scores(architecture, scores)
    compared = [GroupScores(sharing.compared(own.attention), sharing.compared(own.mlp)) for own in scores]
    ranked: Literal["by_density", "by_score"] = "by_density" if sharing.per_parameter else "by_score"
    return plan_units(architecture, compared, ratio, targets, limits, ranked=ranked)


def check_ratio(architecture: Architecture, ratio: float, options: WidthOptions | None = None) -> None:
    """Raise PlanError if a model of this shape cannot lose ``ratio`` with these options, whatever the scores."""
    options = options or WidthOptions()
    whole, num_layers = before_cut(architecture, options), architecture.num_layers
    ratio = _share_of(whole, architecture, ratio)
    check_reachable(whole, ratio, _limits(options, num_layers, [0.0] * num_layers))


def before_cut(architecture: Architecture, options: WidthOptions) -> Architecture:
    """Shape of the model before the cut: the base with the biases that a repair adds.

    Raises:
        PlanError: if ``uniform`` is set, but the family's class in transformers has no place for the biases.
    """
    whole = with_output_biases(architecture) if options.repairing.adds_bias else architecture
    if options.uniform and (added := whole.config.get(ADDED_BIASES)):
        way_out = "leave uniform out" + ", or choose another repair, or none" * (whole is not architecture)
        raise PlanError(
            f"uniform needs a model that the {architecture.family} class of transformers loads, but this class has no "
            f"place for a bias of {' and '.join(added)}; {way_out}"
        )
    return whole


def _share_of(whole: Architecture, architecture: Architecture, ratio: float) -> float:
    """Share that ``whole`` must lose so that the remaining model is smaller than the base by ``ratio``."""
    if whole is architecture:
        return ratio
    return 1 - (1 - ratio) * architecture.total_parameters / whole.total_parameters


def layers_kept_whole(num_layers: int, options: WidthOptions, importance: Sequence[float] | None) -> set[int]:
    """Indices of the layers that lose nothing: those outside ``layer_range``, and the ``freeze_top_layers``."""
    whole = set(range(num_layers)) - set(options.layers_in_range(num_layers))
    if options.freeze_top_layers:
        assert importance is not None
        whole |= set(sorted(range(num_layers), key=lambda index: -importance[index])[: options.freeze_top_layers])
    return whole


def _limits(options: WidthOptions, num_layers: int, importance: Sequence[float] | None) -> Limits:
    return Limits(
        uniform=options.uniform,
        multiple_of=options.multiple_of,
        split=options.split,
        min_rate=options.min_rate,
        max_rate=options.max_rate,
        whole=frozenset(layers_kept_whole(num_layers, options, importance)),
    )

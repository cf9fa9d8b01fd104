"""Checks of depth variants, and the number of layers for a share of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from llm_pruner.mechanisms.depth.options import DROPS, DepthOptions
from llm_pruner.methods.base import LayerScoreMethod
from llm_pruner.planning.plan import Plan
from llm_pruner.system.errors import PlanError

if TYPE_CHECKING:
    from llm_pruner.models.architecture import Architecture
    from llm_pruner.variants.variant import Variant


def check(variant: Variant, architecture: Architecture) -> None:
    """Raise PlanError if a model of this shape cannot lose the variant's layers. Runs before scores exist."""
    options, num_layers = DepthOptions(**variant.options), architecture.num_layers
    method = variant.build_method()
    assert isinstance(method, LayerScoreMethod)
    removable = options.removable(num_layers)
    most = min(len(removable), num_layers - 1)
    protected = num_layers - len(removable)
    hint = f", {protected} of them protected by protect_first and protect_last," if protected else ","
    if options.of == "layers":
        count = int(variant.amount)
        if count > most:
            raise PlanError(f"the model has {num_layers} layers{hint} at most {most} can be removed")
    else:
        if not most:
            raise PlanError(f"the model has {num_layers} layers{hint} none can be removed")
        count = nearest_count(architecture, options, variant.amount, lambda number: removable[:number])
    method.check_count(num_layers, count)


def nearest_count(
    architecture: Architecture,
    options: DepthOptions,
    ratio: float,
    select: Callable[[int], Collection[int]],
) -> int:
    """Number of layers, or blocks, whose parameters are nearest to a share of all parameters; at least one.

    Args:
        architecture: shape of the base model.
        options: options of depth.
        ratio: share of all parameters, 0 < ratio < 1.
        select: from a number of layers to the indices to remove.

    Raises:
        PlanError: if the share exceeds the parameters of all removable layers by more than half of the last layer.
    """
    budget = ratio * architecture.total_parameters
    most = min(len(options.removable(architecture.num_layers)), architecture.num_layers - 1)
    gone = [0]
    for count in range(1, most + 1):
        gone.append(depth_plan(architecture, options.drop, select(count)).removed_parameters(architecture))
        if gone[-1] >= budget:
            break
    else:
        if budget > gone[-1] + (gone[-1] - gone[-2]) / 2:
            share = gone[-1] / architecture.total_parameters
            raise PlanError(
                f"{ratio:.2%} of the parameters cannot be removed; the {most} removable {DROPS[options.drop]} hold "
                f"{share:.2%}"
            )
    return max(1, min(range(len(gone)), key=lambda count: abs(gone[count] - budget)))


def depth_plan(architecture: Architecture, drop: str, indices: Collection[int]) -> Plan:
    """The plan that removes these layers, or their ``attention`` or ``mlp`` blocks."""
    if drop == "layer":
        return Plan.keep_layers(architecture, set(range(architecture.num_layers)) - set(indices))
    return Plan.drop_blocks(architecture, drop, indices)

"""Whether so many layers can go, and how many make up a share of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from llm_pruner.mechanisms.depth.options import DepthOptions
from llm_pruner.methods.base import LayerScoreMethod
from llm_pruner.planning.plan import Plan
from llm_pruner.system.errors import PlanError

if TYPE_CHECKING:
    from llm_pruner.models.architecture import Architecture
    from llm_pruner.variants.variant import Variant


def check(variant: Variant, architecture: Architecture) -> None:
    """Raise PlanError unless ``variant`` can be made of a model of this shape, as far as can be told unscored."""
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
            raise PlanError(f"the model has {num_layers} layers{hint} at most {most} can go")
    else:
        if not most:
            raise PlanError(f"the model has {num_layers} layers{hint} none can go")
        count = nearest_count(architecture, options, variant.amount, lambda number: removable[:number])
    method.check_count(num_layers, count)


def nearest_count(
    architecture: Architecture,
    options: DepthOptions,
    ratio: float,
    select: Callable[[int], Collection[int]],
) -> int:
    """The number of layers, or of blocks, that together come nearest to a share of all parameters; at least one.

    Args:
        ratio: the share, between 0 and 1.
        select: the indices that go, given how many.

    Raises:
        PlanError: if the share is larger than what all that may go hold, by more than half of the last.
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
            raise PlanError(f"{ratio:.2%} of the parameters cannot go; the {most} that may go hold {share:.2%}")
    return max(1, min(range(len(gone)), key=lambda count: abs(gone[count] - budget)))


def depth_plan(architecture: Architecture, drop: str, indices: Collection[int]) -> Plan:
    """What stays without these layers, or without their ``attention`` or ``mlp`` blocks."""
    if drop == "layer":
        return Plan.keep_layers(architecture, set(range(architecture.num_layers)) - set(indices))
    return Plan.drop_blocks(architecture, drop, indices)

"""The budget: from the targets of an allocation to the units, or the single weights, that each layer loses.

Targets are scaled until the layers together meet the budget, each within its bounds. Units cannot be split, so the
scaled targets are rounded by largest remainder: first in attention, whose units are coarse, then in the MLP, whose
channels make up the difference. A ranking of all units uses no targets: it removes the lowest units, by score per
parameter or by score, until the budget is met.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from llm_pruner.models.architecture import Architecture, LayerShape
from llm_pruner.planning.plan import LayerPlan, Plan
from llm_pruner.system.errors import PlanError

_TIE = 1e-9
LEAST_WEIGHT = 1e-6
"""Weight of a layer whose target is 0: the layer loses units only once all others have lost all they can."""
MOST_OF_LAYER = 0.99
"""Largest share of its single weights that a layer loses, unless the whole model is to lose more: a layer of zeros
passes nothing on."""


@dataclass(frozen=True)
class GroupScores:
    """Scores of one layer's units; higher is more important."""

    attention: Sequence[float]
    """One score for each key-value group."""
    mlp: Sequence[float]
    """One score for each MLP channel."""


@dataclass
class Slot:
    """The units of one block of one layer, or of all layers if they must keep the same shape.

    A slot loses its units in the order of their scores. It takes a step when it loses the next larger possible number.
    """

    layers: tuple[int, ...]
    """Indices of the layers."""
    units: int
    """Units in a layer."""
    sizes: tuple[int, ...]
    """Possible numbers of units to remove from a layer, ascending. The first is always removed."""
    cost: int
    """Parameters of one unit, summed over ``layers``."""
    ranked: tuple[tuple[float, ...], ...]
    """Scores of each layer's units, ascending."""
    weight: float = 1.0
    """Target of the allocation: the loss in relation to other slots."""
    target: float = 0.0
    """Units to remove, before rounding."""
    position: int = field(default=0)
    """Index of the current size in ``sizes``."""

    @property
    def removed(self) -> int:
        """Units removed from a layer so far."""
        return self.sizes[self.position]

    @property
    def next_size(self) -> int | None:
        """Units removed after the next step; None if there is no further step."""
        return self.sizes[self.position + 1] if self.position + 1 < len(self.sizes) else None

    @property
    def step_cost(self) -> int:
        """Parameters that the next step removes."""
        assert self.next_size is not None
        return (self.next_size - self.removed) * self.cost

    def set_target(self, units: float) -> None:
        """Set the target and take the largest size that does not exceed it."""
        self.target = units
        self.position = max(index for index, size in enumerate(self.sizes) if size <= units + _TIE)

    def by_remainder(self) -> tuple[float, float]:
        """Sort key: the largest remainder first, of equals the units with the smallest share of their layer's score."""
        assert self.next_size is not None
        remainder = (self.target - self.removed) / (self.next_size - self.removed)
        loss = 0.0
        for scores in self.ranked:
            total = sum(scores) or 1.0
            loss += sum(scores[self.removed : self.next_size]) / total
        return (-round(remainder, 9), loss)

    def by_density(self) -> tuple[float, float]:
        """Sort key: the next step with the lowest score per parameter first."""
        lost = sum(sum(scores[self.removed : self.next_size]) for scores in self.ranked)
        return (lost / self.step_cost, 0.0)

    def by_score(self) -> tuple[float, float]:
        """Sort key: the next step with the lowest mean score first, whatever its parameters."""
        assert self.next_size is not None
        scores = [score for ranked in self.ranked for score in ranked[self.removed : self.next_size]]
        return (sum(scores) / len(scores), 0.0)


@dataclass(frozen=True)
class Slots:
    """All slots of a model, by block."""

    attention: list[Slot]
    mlp: list[Slot]

    @property
    def all(self) -> list[Slot]:
        """Slots of both blocks."""
        return [*self.attention, *self.mlp]


@dataclass(frozen=True)
class Limits:
    """Bounds on the loss of layers, for any allocation."""

    uniform: bool = False
    """Whether every layer keeps the same shape."""
    multiple_of: int = 1
    """Kept widths are multiples of this. A block without such a width stays whole."""
    split: str | None = None
    """Shares of the budget for attention and MLP, such as ``2:8``. None gives both the same rate."""
    min_rate: float = 0.0
    """Smallest share of its units that a layer loses, rounded down to a possible size."""
    max_rate: float = 1.0
    """Largest share of its units that a layer loses."""
    whole: frozenset[int] = frozenset()
    """Indices of the layers that lose nothing."""


def plan_units(
    architecture: Architecture,
    scores: Sequence[GroupScores],
    ratio: float,
    targets: Sequence[float],
    limits: Limits,
    *,
    ranked: Literal["by_density", "by_score"] | None = None,
) -> Plan:
    """Plan to remove ``ratio`` of all the model's parameters, lowest scores first within each layer.

    Args:
        architecture: shape of the base model.
        scores: one entry for each layer; higher is more important.
        ratio: share of the whole model's parameters, 0 < ratio < 1.
        targets: how much each layer should lose in relation to the others.
        limits: bounds on the loss of layers.
        ranked: rank the units of all layers together, by score per parameter or by score. None uses the targets.

    Returns:
        A plan that misses the ratio by at most half of the smallest step that remains.

    Raises:
        PlanError: if scores do not fit the model or are not finite, or if the limits do not allow the ratio.
    """
    check_scores(architecture, scores)
    budget = round(ratio * architecture.total_parameters)
    slots = _slots(architecture, scores, targets, limits)
    _check_reachable(architecture, slots, budget, ratio, limits)
    # the MLP's smallest sizes are removed in any case; attention can use only the rest of the budget
    ceiling = budget - _total(slots.mlp)

    if ranked:
        priority = Slot.by_density if ranked == "by_density" else Slot.by_score
        if limits.split:
            _fill(slots.attention, attention_budget(slots, budget, limits.split), priority, ceiling=ceiling)
            _fill(slots.mlp, budget - _total(slots.attention), priority)
        else:
            _fill(slots.all, budget, priority, ceiling=budget)
    else:
        priority = Slot.by_remainder
        _set_targets(slots.attention, min(attention_budget(slots, budget, limits.split), ceiling))
        _fill(
            slots.attention, round(sum(slot.target * slot.cost for slot in slots.attention)), priority, ceiling=ceiling
        )
        rest = budget - _total(slots.attention)
        _set_targets(slots.mlp, rest)
        _fill(slots.mlp, rest, priority)
    # takes more than a last step only if one block could not lose enough
    _fill(slots.all, budget, priority)

    removed_groups = _by_layer(slots.attention)
    removed_channels = _by_layer(slots.mlp)
    return Plan(
        architecture.num_layers,
        tuple(
            LayerPlan(
                index,
                keep_highest(scores[index].attention, removed_groups[index]),
                keep_highest(scores[index].mlp, removed_channels[index]),
            )
            for index in range(architecture.num_layers)
        ),
    )


def layer_ratios(ratio: float, targets: Sequence[float], weights: Sequence[int]) -> list[float]:
    """Share of its single weights that each layer loses, so that all layers lose ``ratio`` of all weights.

    Args:
        ratio: share of all weights, 0 < ratio < 1.
        targets: how much each layer should lose in relation to the others.
        weights: number of weights of each layer.

    >>> layer_ratios(0.5, [1.0, 3.0], [10, 10])
    [0.25, 0.75]
    """
    if len(set(targets)) == 1:
        return [ratio] * len(targets)
    most = max(ratio, MOST_OF_LAYER)
    amounts = share_out(
        ratio * sum(weights),
        [max(target, LEAST_WEIGHT) * size for target, size in zip(targets, weights, strict=True)],
        [0.0] * len(weights),
        [most * size for size in weights],
        [1.0] * len(weights),
    )
    return [amount / size for amount, size in zip(amounts, weights, strict=True)]


def attention_budget(slots: Slots, budget: int, split: str | None) -> float:
    """Attention's part of a budget, in parameters: by ``split``, or at the same rate as the MLP."""
    attention, mlp = (
        (sum(slot.units * slot.cost for slot in part if slot.sizes[-1]) for part in (slots.attention, slots.mlp))
        if split is None
        else map(int, split.split(":"))
    )
    return budget * attention / (attention + mlp) if attention + mlp else 0.0


def keep_highest(scores: Sequence[float], remove: int) -> tuple[int, ...]:
    """Indices that stay after removal of the ``remove`` lowest scores, ascending. Of equals the later is removed first.

    >>> keep_highest([3.0, 1.0, 2.0], 1)
    (0, 2)
    """
    order = sorted(range(len(scores)), key=lambda index: (scores[index], -index))
    return tuple(sorted(order[remove:]))


def group_sizes(architecture: Architecture, shape: LayerShape, *, uniform: bool, multiple_of: int) -> tuple[int, ...]:
    """Possible numbers of key-value groups to remove from a layer, ascending.

    Args:
        architecture: shape of the model.
        shape: shape of the layer.
        uniform: whether the kept heads must be a number that the model's own class accepts.
        multiple_of: kept widths of queries, keys and values are multiples of this.
    """
    head_dim, groups = architecture.head_dim, shape.key_value_groups

    def fits(kept: int) -> bool:
        heads = kept * shape.heads_per_group
        aligned = (kept * head_dim) % multiple_of == 0 and (heads * head_dim) % multiple_of == 0
        return aligned and (not uniform or architecture.accepts_heads(heads))

    return (0, *(groups - kept for kept in range(groups - 1, 0, -1) if fits(kept)))


def channel_sizes(channels: int, multiple_of: int) -> tuple[int, ...]:
    """Possible numbers of MLP channels to remove from a layer, ascending; 0, or a multiple of ``multiple_of`` stays.

    >>> channel_sizes(10, 4)
    (0, 2, 6)
    """
    largest = (channels - 1) // multiple_of * multiple_of
    return (0, *(channels - kept for kept in range(largest, 0, -multiple_of)))


def _slots(
    architecture: Architecture,
    scores: Sequence[GroupScores],
    targets: Sequence[float],
    limits: Limits,
) -> Slots:
    shapes = architecture.layers

    def slot(index: int, units: int, sizes: tuple[int, ...], cost: int, own: Sequence[float]) -> Slot:
        allowed = (0,) if index in limits.whole else _within_rates(sizes, units, limits)
        return Slot((index,), units, allowed, cost, (tuple(sorted(own)),), max(targets[index], LEAST_WEIGHT))

    attention, mlp = [], []
    for index, shape in enumerate(shapes):
        sizes = group_sizes(architecture, shape, uniform=limits.uniform, multiple_of=limits.multiple_of)
        own = scores[index]
        attention.append(slot(index, shape.key_value_groups, sizes, shape.group_parameters, own.attention))
        sizes = channel_sizes(shape.channels, limits.multiple_of)
        mlp.append(slot(index, shape.channels, sizes, shape.channel_parameters, own.mlp))
    if limits.uniform:
        return Slots(_together(architecture, attention), _together(architecture, mlp))
    return Slots(attention, mlp)


def _within_rates(sizes: tuple[int, ...], units: int, limits: Limits) -> tuple[int, ...]:
    """Sizes between the smallest rate, rounded down to a size, and the largest rate."""
    least = max(size for size in sizes if size <= limits.min_rate * units + _TIE)
    return tuple(size for size in sizes if least <= size <= max(least, limits.max_rate * units + _TIE))


def _together(architecture: Architecture, slots: Sequence[Slot]) -> list[Slot]:
    """One slot for all layers, which then keep the same shape."""
    if len({slot.sizes for slot in slots}) > 1:
        raise PlanError(
            f"{architecture.folder}: the layers already differ in width, so uniform cannot give them one shape; "
            "leave uniform out"
        )
    return [
        Slot(
            tuple(range(architecture.num_layers)),
            slots[0].units,
            slots[0].sizes,
            sum(slot.cost for slot in slots),
            tuple(slot.ranked[0] for slot in slots),
        )
    ]


def share_out(
    budget: float, weights: Sequence[float], least: Sequence[float], most: Sequence[float], costs: Sequence[float]
) -> list[float]:
    """Amounts in proportion to ``weights``, each within its bounds, with a total cost equal to the budget.

    If the bounds do not allow the budget, the total is as close to it as they allow.

    Args:
        budget: total cost to meet.
        weights: relative sizes of the amounts, above 0.
        least: smallest amounts.
        most: largest amounts.
        costs: cost of one unit of each amount.

    >>> share_out(7.0, [1, 1, 2], least=[0, 0, 0], most=[1, 9, 9], costs=[1, 1, 1])
    [1.0, 2.0, 4.0]
    """

    def amounts(rate: float) -> list[float]:
        return [
            float(min(max(rate * weight, low), high)) for weight, low, high in zip(weights, least, most, strict=True)
        ]

    def total(rate: float) -> float:
        return sum(amount * cost for amount, cost in zip(amounts(rate), costs, strict=True))

    # the total is linear between the rates at which an amount leaves its lower or reaches its upper bound
    corners = sorted(
        {bound / weight for bounds in (least, most) for bound, weight in zip(bounds, weights, strict=True)}
    )
    below = max((rate for rate in corners if total(rate) <= budget), default=corners[0])
    above = min((rate for rate in corners if total(rate) > budget), default=below)
    if above > below:
        below += (budget - total(below)) / (total(above) - total(below)) * (above - below)
    return amounts(below)


def _set_targets(slots: Sequence[Slot], budget: float) -> None:
    """Set the targets of all slots by their weights, within their sizes, so that they add up to the budget."""
    targets = share_out(
        budget,
        [slot.weight * slot.units for slot in slots],
        [slot.sizes[0] for slot in slots],
        [slot.sizes[-1] for slot in slots],
        [slot.cost for slot in slots],
    )
    for slot, target in zip(slots, targets, strict=True):
        slot.set_target(target)


def _fill(
    slots: Sequence[Slot],
    budget: float,
    priority: Callable[[Slot], tuple[float, float]],
    ceiling: float = math.inf,
) -> None:
    """Take further steps, lowest ``priority`` first, while a step brings the total closer to ``budget``.

    The total stays within ``ceiling``, because the finer units of later slots cannot undo an excess of coarse units.
    """
    total = _total(slots)
    queue = [(priority(slot), number) for number, slot in enumerate(slots) if slot.next_size is not None]
    heapq.heapify(queue)
    while queue:
        _, number = heapq.heappop(queue)
        slot = slots[number]
        if slot.step_cost > 2 * (budget - total) or total + slot.step_cost > ceiling:
            continue  # no later step of this slot fits either: the rest of the budget only shrinks
        total += slot.step_cost
        slot.position += 1
        if slot.next_size is not None:
            heapq.heappush(queue, (priority(slot), number))


def _total(slots: Sequence[Slot]) -> int:
    return sum(slot.removed * slot.cost for slot in slots)


def _by_layer(slots: Sequence[Slot]) -> dict[int, int]:
    return {layer: slot.removed for slot in slots for layer in slot.layers}


def check_scores(architecture: Architecture, scores: Sequence[GroupScores]) -> None:
    """Raise PlanError unless each unit of each layer has one finite score."""
    if len(scores) != architecture.num_layers:
        raise PlanError(f"scores of {len(scores)} layers for a model of {architecture.num_layers} layers")
    for index, (own, shape) in enumerate(zip(scores, architecture.layers, strict=True)):
        if len(own.attention) != shape.key_value_groups or len(own.mlp) != shape.channels:
            raise PlanError(
                f"layer {index} has {shape.key_value_groups} key-value groups and {shape.channels} channels, "
                f"but scores for {len(own.attention)} and {len(own.mlp)}"
            )
        if not all(math.isfinite(score) for score in (*own.attention, *own.mlp)):
            raise PlanError(f"layer {index} has scores that are not finite")


def _check_reachable(architecture: Architecture, slots: Slots, budget: int, ratio: float, limits: Limits) -> None:
    total = architecture.total_parameters
    asked = f"a ratio of {ratio:.4f} removes {budget:,} of {total:,} parameters; "
    most = sum(slot.sizes[-1] * slot.cost for slot in slots.all)
    if budget > most:
        reasons = ["every layer must keep one group and one step of channels"]
        if limits.max_rate < 1:
            reasons.append(f"no layer may lose more than max_rate {limits.max_rate:g}")
        whole = sum(slot.sizes == (0,) for slot in slots.mlp)
        if limits.whole:
            reasons.append(f"layer_range and freeze_top_layers keep {whole} of {architecture.num_layers} layers whole")
        raise PlanError(f"{asked}{', and '.join(reasons)}, so width can remove at most {most:,} ({most / total:.4f})")
    least = sum(slot.sizes[0] * slot.cost for slot in slots.all)
    if budget < least:
        raise PlanError(f"{asked}min_rate {limits.min_rate:g} alone removes {least:,} ({least / total:.4f})")


def check_reachable(architecture: Architecture, ratio: float, limits: Limits) -> None:
    """Raise PlanError if ``plan_units`` cannot reach this ratio, whatever the scores and targets.

    ``split`` does not count: if one block cannot lose its part, the other block makes up for it.
    """
    architecture.check_blocks()
    blank = [GroupScores([0.0] * shape.key_value_groups, [0.0] * shape.channels) for shape in architecture.layers]
    slots = _slots(architecture, blank, [1.0] * architecture.num_layers, limits)
    _check_reachable(architecture, slots, round(ratio * architecture.total_parameters), ratio, limits)

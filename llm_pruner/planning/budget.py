"""How much each layer loses, so that the whole reaches the asked size: of key-value groups and MLP channels, or of
single weights.

Pure arithmetic on shapes, scores and the targets of an allocation. Targets are scaled until the budget is met, each
within its bounds. Whole units cannot be split, so what layers wish to lose is rounded by largest remainder, attention
first because its units are coarse, and MLP channels then make up what attention missed. Where units are ranked together
there are no targets: the cheapest step, by score per parameter or by score, is taken until the budget is met.
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
"""Of a layer that should lose nothing: it gives only where all others are spent."""
MOST_OF_LAYER = 0.99
"""Share of its single weights that no layer loses more of than is asked of all: nothing would pass through it."""


@dataclass(frozen=True)
class GroupScores:
    """Importance of one layer's units: ``attention`` a score a key-value group, ``mlp`` a score an MLP channel."""

    attention: Sequence[float]
    mlp: Sequence[float]


@dataclass
class Slot:
    """Units that go together: one component of one layer, or of all layers where they must stay alike."""

    layers: tuple[int, ...]
    units: int
    """How many there are in a layer."""
    sizes: tuple[int, ...]
    """Numbers of units that may go, ascending; the first must."""
    cost: int
    """Parameters that go with one unit (in all ``layers`` together)."""
    ranked: tuple[tuple[float, ...], ...]
    """Scores of each layer's units, ascending."""
    weight: float = 1.0
    """How much it should lose in comparison with others."""
    wish: float = 0.0
    position: int = field(default=0)

    @property
    def removed(self) -> int:
        return self.sizes[self.position]

    @property
    def next_size(self) -> int | None:
        return self.sizes[self.position + 1] if self.position + 1 < len(self.sizes) else None

    @property
    def step_cost(self) -> int:
        assert self.next_size is not None
        return (self.next_size - self.removed) * self.cost

    def ask(self, units: float) -> None:
        """Set the wish and take the largest size within it."""
        self.wish = units
        self.position = max(index for index, size in enumerate(self.sizes) if size <= units + _TIE)

    def by_wish(self) -> tuple[float, float]:
        """Sorts first what wishes most for its next step; of equals, the units that matter least in their layers."""
        assert self.next_size is not None
        remainder = (self.wish - self.removed) / (self.next_size - self.removed)
        loss = 0.0
        for scores in self.ranked:
            total = sum(scores) or 1.0
            loss += sum(scores[self.removed : self.next_size]) / total
        return (-round(remainder, 9), loss)

    def by_density(self) -> tuple[float, float]:
        """Sorts first what loses least score per parameter with its next step."""
        lost = sum(sum(scores[self.removed : self.next_size]) for scores in self.ranked)
        return (lost / self.step_cost, 0.0)

    def by_score(self) -> tuple[float, float]:
        """Sorts first the units of lowest score, whatever they cost."""
        assert self.next_size is not None
        scores = [score for ranked in self.ranked for score in ranked[self.removed : self.next_size]]
        return (sum(scores) / len(scores), 0.0)


@dataclass(frozen=True)
class Slots:
    """All slots of a model, by component."""

    attention: list[Slot]
    mlp: list[Slot]

    @property
    def all(self) -> list[Slot]:
        return [*self.attention, *self.mlp]


@dataclass(frozen=True)
class Limits:
    """What layers may lose, whatever an allocation asks of them."""

    uniform: bool = False
    """Every layer keeps the same shape."""
    multiple_of: int = 1
    """Widths that are kept are multiples of this; a component for which none is allowed stays whole."""
    split: str | None = None
    """Shares of the budget that attention and MLP give, ``2:8``; both lose at one rate without."""
    min_rate: float = 0.0
    max_rate: float = 1.0
    whole: frozenset[int] = frozenset()
    """Layers that lose nothing."""


def plan_units(
    architecture: Architecture,
    scores: Sequence[GroupScores],
    ratio: float,
    targets: Sequence[float],
    limits: Limits,
    *,
    ranked: Literal["by_density", "by_score"] | None = None,
) -> Plan:
    """Plan that removes ``ratio`` of all the model's parameters, lowest scores first within each layer.

    Args:
        architecture: the base model.
        scores: one entry a layer, higher is more important.
        ratio: share of the whole model's parameters, 0 < ratio < 1.
        targets: how much each layer should lose in relation to the others.
        limits: what layers may lose.
        ranked: rank the units of all layers together, by score per parameter or by score, instead of by targets.

    Returns:
        A plan that misses the ratio by at most half of the finest step left to take.

    Raises:
        PlanError: if scores do not fit the model or are not finite, or the limits leave too little that can go.
    """
    check_scores(architecture, scores)
    budget = round(ratio * architecture.total_parameters)
    slots = _slots(architecture, scores, targets, limits)
    _check_reachable(architecture, slots, budget, ratio, limits)
    # what the MLP must lose in any case is not attention's to take
    ceiling = budget - _total(slots.mlp)

    if ranked:
        urgency = Slot.by_density if ranked == "by_density" else Slot.by_score
        if limits.split:
            _fill(slots.attention, attention_budget(slots, budget, limits.split), urgency, ceiling=ceiling)
            _fill(slots.mlp, budget - _total(slots.attention), urgency)
        else:
            _fill(slots.all, budget, urgency, ceiling=budget)
    else:
        urgency = Slot.by_wish
        _wish(slots.attention, min(attention_budget(slots, budget, limits.split), ceiling))
        _fill(slots.attention, round(sum(slot.wish * slot.cost for slot in slots.attention)), urgency, ceiling=ceiling)
        rest = budget - _total(slots.attention)
        _wish(slots.mlp, rest)
        _fill(slots.mlp, rest, urgency)
    # only where one component ran out does this find more than a last step to do
    _fill(slots.all, budget, urgency)

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
    """Shares of their single weights that layers lose, which come to ``ratio`` of all weights together.

    Args:
        ratio: share of all weights, 0 < ratio < 1.
        targets: how much each layer should lose in relation to the others.
        weights: how many each layer has.

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
    """Parameters that attention gives of a budget: by ``split``, or at the rate at which MLP loses too."""
    attention, mlp = (
        (sum(slot.units * slot.cost for slot in part if slot.sizes[-1]) for part in (slots.attention, slots.mlp))
        if split is None
        else map(int, split.split(":"))
    )
    return budget * attention / (attention + mlp) if attention + mlp else 0.0


def keep_highest(scores: Sequence[float], remove: int) -> tuple[int, ...]:
    """Indices that stay when the ``remove`` lowest go, ascending; of equals the later goes first.

    >>> keep_highest([3.0, 1.0, 2.0], 1)
    (0, 2)
    """
    order = sorted(range(len(scores)), key=lambda index: (scores[index], -index))
    return tuple(sorted(order[remove:]))


def group_sizes(architecture: Architecture, shape: LayerShape, *, uniform: bool, multiple_of: int) -> tuple[int, ...]:
    """Numbers of key-value groups that may go from a layer."""
    head_dim, groups = architecture.head_dim, shape.key_value_groups

    def fits(kept: int) -> bool:
        heads = kept * shape.heads_per_group
        aligned = (kept * head_dim) % multiple_of == 0 and (heads * head_dim) % multiple_of == 0
        return aligned and (not uniform or architecture.accepts_heads(heads))

    return (0, *(groups - kept for kept in range(groups - 1, 0, -1) if fits(kept)))


def channel_sizes(channels: int, multiple_of: int) -> tuple[int, ...]:
    """Numbers of MLP channels that may go from a layer, so that what stays is a multiple (or everything).

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
    """Of the sizes, those between the smallest and the largest rate, the smallest rounded down to a size."""
    least = max(size for size in sizes if size <= limits.min_rate * units + _TIE)
    return tuple(size for size in sizes if least <= size <= max(least, limits.max_rate * units + _TIE))


def _together(architecture: Architecture, slots: Sequence[Slot]) -> list[Slot]:
    """One slot for all layers, which then stay alike."""
    if len({slot.sizes for slot in slots}) > 1:
        raise PlanError(
            f"{architecture.folder}: its layers already differ in width, so 'uniform' cannot make them alike; "
            "leave it out"
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
    """Amounts in proportion to ``weights``, each within its bounds, that cost the budget together.

    A budget that the bounds cannot meet is met as nearly as they can.

    >>> share_out(7.0, [1, 1, 2], least=[0, 0, 0], most=[1, 9, 9], costs=[1, 1, 1])
    [1.0, 2.0, 4.0]
    """

    def amounts(rate: float) -> list[float]:
        return [
            float(min(max(rate * weight, low), high)) for weight, low, high in zip(weights, least, most, strict=True)
        ]

    def total(rate: float) -> float:
        return sum(amount * cost for amount, cost in zip(amounts(rate), costs, strict=True))

    # between the rates at which an amount leaves its lower or meets its upper bound the total is linear
    corners = sorted(
        {bound / weight for bounds in (least, most) for bound, weight in zip(bounds, weights, strict=True)}
    )
    below = max((rate for rate in corners if total(rate) <= budget), default=corners[0])
    above = min((rate for rate in corners if total(rate) > budget), default=below)
    if above > below:
        below += (budget - total(below)) / (total(above) - total(below)) * (above - below)
    return amounts(below)


def _wish(slots: Sequence[Slot], budget: float) -> None:
    """Let every slot wish for units by its weight, within its sizes, so that wishes add up to the budget."""
    wishes = share_out(
        budget,
        [slot.weight * slot.units for slot in slots],
        [slot.sizes[0] for slot in slots],
        [slot.sizes[-1] for slot in slots],
        [slot.cost for slot in slots],
    )
    for slot, wish in zip(slots, wishes, strict=True):
        slot.ask(wish)


def _fill(
    slots: Sequence[Slot],
    budget: float,
    urgency: Callable[[Slot], tuple[float, float]],
    ceiling: float = math.inf,
) -> None:
    """Take further steps, most urgent first, while a step brings the total closer to ``budget``.

    The total never passes ``ceiling``: what coarse units take too much, finer ones could not give back.
    """
    total = _total(slots)
    queue = [(urgency(slot), number) for number, slot in enumerate(slots) if slot.next_size is not None]
    heapq.heapify(queue)
    while queue:
        _, number = heapq.heappop(queue)
        slot = slots[number]
        if slot.step_cost > 2 * (budget - total) or total + slot.step_cost > ceiling:
            continue  # and never again: what is left only shrinks
        total += slot.step_cost
        slot.position += 1
        if slot.next_size is not None:
            heapq.heappush(queue, (urgency(slot), number))


def _total(slots: Sequence[Slot]) -> int:
    return sum(slot.removed * slot.cost for slot in slots)


def _by_layer(slots: Sequence[Slot]) -> dict[int, int]:
    return {layer: slot.removed for slot in slots for layer in slot.layers}


def check_scores(architecture: Architecture, scores: Sequence[GroupScores]) -> None:
    """Raise PlanError if there is not one finite score for each unit of each layer."""
    if len(scores) != architecture.num_layers:
        raise PlanError(f"scores of {len(scores)} layers for a model of {architecture.num_layers}")
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
    asked = f"a ratio of {ratio:.4f} asks for {budget:,} of {total:,} parameters; "
    most = sum(slot.sizes[-1] * slot.cost for slot in slots.all)
    if budget > most:
        reasons = ["one group and one step of channels must stay in every layer"]
        if limits.max_rate < 1:
            reasons.append(f"no layer may lose more than max_rate {limits.max_rate:g}")
        whole = sum(slot.sizes == (0,) for slot in slots.mlp)
        if limits.whole:
            reasons.append(f"layer_range and freeze_top_layers leave {whole} of {architecture.num_layers} layers whole")
        raise PlanError(f"{asked}{', and '.join(reasons)}, so at most {most:,} ({most / total:.4f}) can go by width")
    least = sum(slot.sizes[0] * slot.cost for slot in slots.all)
    if budget < least:
        raise PlanError(f"{asked}min_rate {limits.min_rate:g} alone takes {least:,} ({least / total:.4f})")


def check_reachable(architecture: Architecture, ratio: float, limits: Limits) -> None:
    """Raise PlanError if no scores and targets whatever could make ``plan_units`` reach this ratio.

    ``split`` is a wish: where one component has too little to give, the other makes up for it.
    """
    architecture.check_blocks()
    blank = [GroupScores([0.0] * shape.key_value_groups, [0.0] * shape.channels) for shape in architecture.layers]
    slots = _slots(architecture, blank, [1.0] * architecture.num_layers, limits)
    _check_reachable(architecture, slots, round(ratio * architecture.total_parameters), ratio, limits)

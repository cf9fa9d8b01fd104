"""How many key-value groups and MLP channels each layer loses, so that the whole reaches the asked size.

Pure arithmetic on shapes and scores. Every layer wishes to lose the same share; whole units cannot be split, so
wishes are rounded by largest remainder, attention first because its units are coarse, and MLP channels then make
up what attention missed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from llm_pruner.errors import PlanError
from llm_pruner.models.architecture import Architecture, LayerShape
from llm_pruner.planning.plan import LayerPlan, Plan

_TIE = 1e-9


@dataclass(frozen=True)
class GroupScores:
    """Importance of one layer's units: ``attention`` a score a key-value group, ``mlp`` a score an MLP channel."""

    attention: Sequence[float]
    mlp: Sequence[float]


@dataclass
class Slot:
    """Units that go together: one component of one layer, or of all layers where they must stay alike."""

    layers: tuple[int, ...]
    sizes: tuple[int, ...]
    """Numbers of units that may go, ascending from 0."""
    cost: int
    """Parameters that go with one unit (in all ``layers`` together)."""
    ranked: tuple[tuple[float, ...], ...]
    """Scores of each layer's units, ascending."""
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

    def urgency(self) -> tuple[float, float]:
        """How much of the next step is wished for; ties go to the units that matter least in their layers."""
        assert self.next_size is not None
        remainder = (self.wish - self.removed) / (self.next_size - self.removed)
        loss = 0.0
        for scores in self.ranked:
            total = sum(scores) or 1.0
            loss += sum(scores[self.removed : self.next_size]) / total
        return (round(remainder, 9), -loss)


def allocate(
    architecture: Architecture,
    scores: Sequence[GroupScores],
    ratio: float,
    *,
    uniform: bool = False,
    multiple_of: int = 1,
    split: str | None = None,
) -> Plan:
    """Plan that removes ``ratio`` of all the model's parameters, lowest scores first within each layer.

    Args:
        architecture: the base model.
        scores: one entry a layer, higher is more important.
        ratio: share of the whole model's parameters, 0 < ratio < 1.
        uniform: give every layer the same widths, restricted to those transformers' own classes load.
        multiple_of: kept widths (query, key-value and MLP) are multiples of this; a component that cannot is
            left whole.
        split: share of the budget that attention and MLP give, such as ``2:8``; by default both lose at one rate.

    Returns:
        A plan that misses the target by at most half of the finest step left to take.

    Raises:
        PlanError: if scores do not fit the model or are not finite, or the ratio leaves nothing.
    """
    _check_scores(architecture, scores)
    budget = round(ratio * architecture.total_parameters)
    attention = _slots(architecture, scores, "attention", uniform, multiple_of)
    mlp = _slots(architecture, scores, "mlp", uniform, multiple_of)
    _check_reachable(architecture, [*attention, *mlp], budget, ratio)

    rate = attention_rate(architecture, budget, split)
    for slot in attention:
        slot.ask(min(rate * _units(architecture, slot, "attention"), slot.sizes[-1]))
    _fill(attention, round(sum(slot.wish * slot.cost for slot in attention)), ceiling=budget)

    rest = budget - _total(attention)
    mlp_capacity = sum(_units(architecture, slot, "mlp") * slot.cost for slot in mlp)
    for slot in mlp:
        slot.ask(min(rest / mlp_capacity * _units(architecture, slot, "mlp"), slot.sizes[-1]))
    _fill(mlp, rest)
    # only where MLP channels ran out does this find anything left to do
    _fill([*attention, *mlp], budget)

    removed_groups = _by_layer(attention)
    removed_channels = _by_layer(mlp)
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


def attention_rate(architecture: Architecture, budget: int, split: str | None) -> float:
    """Share of the key-value groups to go when ``budget`` parameters go altogether."""
    shapes = architecture.layers
    capacity = sum(shape.key_value_groups * shape.group_parameters for shape in shapes)
    if split is None:
        return budget / (capacity + sum(shape.channels * shape.channel_parameters for shape in shapes))
    attention, mlp = map(int, split.split(":"))
    return budget * attention / (attention + mlp) / capacity


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
    architecture: Architecture, scores: Sequence[GroupScores], component: str, uniform: bool, multiple_of: int
) -> list[Slot]:
    slots = []
    for index, shape in enumerate(architecture.layers):
        if component == "attention":
            sizes = group_sizes(architecture, shape, uniform=uniform, multiple_of=multiple_of)
            cost, own = shape.group_parameters, scores[index].attention
        else:
            sizes = channel_sizes(shape.channels, multiple_of)
            cost, own = shape.channel_parameters, scores[index].mlp
        slots.append(Slot((index,), sizes, cost, (tuple(sorted(own)),)))
    if not uniform:
        return slots
    if len({slot.sizes for slot in slots}) > 1:
        raise PlanError(
            f"{architecture.folder}: its layers already differ in width, so 'uniform' cannot make them alike; "
            "leave it out"
        )
    return [
        Slot(
            tuple(range(architecture.num_layers)),
            slots[0].sizes,
            sum(slot.cost for slot in slots),
            tuple(slot.ranked[0] for slot in slots),
        )
    ]


def _units(architecture: Architecture, slot: Slot, component: str) -> int:
    shape = architecture.layers[slot.layers[0]]
    return shape.key_value_groups if component == "attention" else shape.channels


def _fill(slots: Sequence[Slot], budget: int, ceiling: float = math.inf) -> None:
    """Take further steps, most wished for first, while a step brings the total closer to ``budget``.

    The total never passes ``ceiling``: what coarse units take too much, finer ones could not give back.
    """
    total = _total(slots)
    while True:
        open_slots = [
            slot
            for slot in slots
            if slot.next_size is not None
            and slot.step_cost <= 2 * (budget - total)
            and total + slot.step_cost <= ceiling
        ]
        if not open_slots:
            return
        best = max(open_slots, key=Slot.urgency)
        total += best.step_cost
        best.position += 1


def _total(slots: Sequence[Slot]) -> int:
    return sum(slot.removed * slot.cost for slot in slots)


def _by_layer(slots: Sequence[Slot]) -> dict[int, int]:
    return {layer: slot.removed for slot in slots for layer in slot.layers}


def _check_scores(architecture: Architecture, scores: Sequence[GroupScores]) -> None:
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


def _check_reachable(architecture: Architecture, slots: Sequence[Slot], budget: int, ratio: float) -> None:
    most = sum(slot.sizes[-1] * slot.cost for slot in slots)
    if budget > most:
        total = architecture.total_parameters
        raise PlanError(
            f"a ratio of {ratio:.4f} asks for {budget:,} of {total:,} parameters; one group and one step of channels "
            f"must stay in every layer, so at most {most:,} ({most / total:.4f}) can go by width"
        )


def check_ratio(
    architecture: Architecture,
    ratio: float,
    *,
    uniform: bool = False,
    multiple_of: int = 1,
    split: str | None = None,
) -> None:
    """Raise PlanError if no scores whatever could make ``allocate`` reach this ratio.

    ``split`` is a wish: where one component has too little to give, the other makes up for it.
    """
    blank = [GroupScores([0.0] * shape.key_value_groups, [0.0] * shape.channels) for shape in architecture.layers]
    slots = [
        slot
        for component in ("attention", "mlp")
        for slot in _slots(architecture, blank, component, uniform, multiple_of)
    ]
    _check_reachable(architecture, slots, round(ratio * architecture.total_parameters), ratio)

"""Allocation: every asked total is reached within one unit, by whole units, lowest scores first."""

from __future__ import annotations

import itertools
import math
import random
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llm_pruner.mechanisms.sparse.options import SparseOptions
from llm_pruner.mechanisms.width.options import WidthOptions
from llm_pruner.mechanisms.width.plan import allocate, check_ratio, layers_kept_whole
from llm_pruner.models.architecture import Architecture, planned_architecture
from llm_pruner.planning.allocations import ALLOCATIONS
from llm_pruner.planning.allocations.choice import ALLOCATION
from llm_pruner.planning.budget import GroupScores, channel_sizes, keep_highest, layer_ratios
from llm_pruner.system.errors import PlanError


def architecture(
    family: str = "mistral", layers: int = 3, groups: int = 4, heads_per_group: int = 2, head_dim: int = 8,
    hidden: int = 64, channels: int = 40,
) -> Architecture:  # fmt: skip
    return planned_architecture(
        {
            "model_type": family,
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": groups * heads_per_group,
            "num_key_value_heads": groups,
            "head_dim": head_dim,
            "intermediate_size": channels,
            "vocab_size": 100,
        }
    )


def random_scores(model: Architecture, seed: int = 0) -> list[GroupScores]:
    generator = random.Random(seed)
    return [
        GroupScores(
            [generator.random() for _ in range(shape.key_value_groups)],
            [generator.random() for _ in range(shape.channels)],
        )
        for shape in model.layers
    ]


def test_unit_costs_by_hand() -> None:
    shape = architecture().layers[0]
    # k and v: 8 rows of 64; q: 2 heads of 8 rows of 64; o: 64 rows of 16 columns
    assert shape.group_parameters == 2 * 8 * 64 + 2 * 8 * 64 + 64 * 16
    assert shape.channel_parameters == 3 * 64


@settings(max_examples=150, deadline=None)
@given(
    layers=st.integers(1, 5),
    groups=st.integers(1, 8),
    heads_per_group=st.integers(1, 8),
    head_dim=st.sampled_from([4, 6, 8]),
    channels=st.integers(2, 70),
    ratio=st.floats(0.01, 0.9),
    seed=st.integers(0, 3),
)
def test_reaches_target_within_one_channel(
    layers: int, groups: int, heads_per_group: int, head_dim: int, channels: int, ratio: float, seed: int
) -> None:
    model = architecture("qwen3", layers, groups, heads_per_group, head_dim, 64, channels)
    budget = round(ratio * model.total_parameters)
    most = sum(
        (shape.key_value_groups - 1) * shape.group_parameters + (shape.channels - 1) * shape.channel_parameters
        for shape in model.layers
    )
    if budget > most:
        with pytest.raises(PlanError, match="at most"):
            allocate(model, random_scores(model, seed), ratio)
        return
    plan = allocate(model, random_scores(model, seed), ratio)
    plan.check(model)
    missed = abs(plan.removed_parameters(model) - budget)
    channels_left = any(len(layer.channels) > 1 for layer in plan.layers)
    unit = model.layers[0].channel_parameters if channels_left else model.layers[0].group_parameters
    assert missed <= unit


def test_lowest_scores_go() -> None:
    model = architecture()
    scores = random_scores(model)
    plan = allocate(model, scores, 0.3)
    for layer, own in zip(plan.layers, scores, strict=True):
        for kept, values in ((layer.groups, own.attention), (layer.channels, own.mlp)):
            gone = set(range(len(values))) - set(kept)
            assert gone
            assert max(values[index] for index in gone) < min(values[index] for index in kept)


def test_layers_lose_alike() -> None:
    plan = allocate(architecture(), random_scores(architecture()), 0.3)
    for sizes in ([len(layer.groups) for layer in plan.layers], [len(layer.channels) for layer in plan.layers]):
        assert max(sizes) - min(sizes) <= 1


def test_groups_that_cannot_be_spread_evenly_go_where_they_matter_least() -> None:
    """One group in three layers: the layer in which the lowest group stands out most gives it."""
    model = architecture(channels=4)
    flat, lopsided = [1.0, 1.0, 1.0, 1.0], [0.1, 1.0, 1.0, 1.0]
    scores = [GroupScores(own, [1.0] * 4) for own in (flat, lopsided, flat)]
    ratio = model.layers[0].group_parameters / model.total_parameters
    plan = allocate(model, scores, ratio)
    assert [len(layer.groups) for layer in plan.layers] == [4, 3, 4]
    assert plan.layers[1].groups == (1, 2, 3)


@pytest.mark.parametrize("split", ["0:1", "2:8", "1:1"])
def test_split_of_the_budget(split: str) -> None:
    model = architecture(layers=6, groups=8, channels=120)
    plan = allocate(model, random_scores(model), 0.2, WidthOptions(split=split))
    gone = sum(8 - len(layer.groups) for layer in plan.layers) * model.layers[0].group_parameters
    attention, mlp = map(int, split.split(":"))
    budget = 0.2 * model.total_parameters
    assert abs(gone - budget * attention / (attention + mlp)) <= model.layers[0].group_parameters
    assert abs(plan.removed_parameters(model) - budget) <= model.layers[0].channel_parameters


@pytest.mark.parametrize("split", ["1:0", "0:1"])
def test_split_that_one_side_cannot_give_is_made_up_by_the_other(split: str) -> None:
    model = architecture()
    plan = allocate(model, random_scores(model), 0.6, WidthOptions(split=split))
    assert abs(plan.removed_parameters(model) - 0.6 * model.total_parameters) <= model.layers[0].group_parameters


@pytest.mark.parametrize("ratio", [0.05, 0.2, 0.35, 0.5])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_uniform_is_loadable_and_close(family: str, ratio: float) -> None:
    model = architecture(family, layers=4, groups=4, heads_per_group=2, channels=60)
    plan = allocate(model, random_scores(model), ratio, WidthOptions(uniform=True))
    groups, channels = {len(layer.groups) for layer in plan.layers}, {len(layer.channels) for layer in plan.layers}
    assert len(groups) == len(channels) == 1
    assert model.accepts_heads(2 * groups.pop())
    step = model.num_layers * model.layers[0].channel_parameters
    assert abs(plan.removed_parameters(model) - ratio * model.total_parameters) <= step


def test_llama_accepts_only_heads_that_divide_hidden() -> None:
    assert not architecture("llama").accepts_heads(6)
    assert architecture("llama").accepts_heads(4)
    assert architecture("qwen2").accepts_heads(6)


def test_multiple_of() -> None:
    model = architecture(channels=44, head_dim=8)
    plan = allocate(model, random_scores(model), 0.3, WidthOptions(multiple_of=16))
    for layer in plan.layers:
        assert len(layer.channels) % 16 == 0 or len(layer.channels) == 44
        assert len(layer.groups) * 8 % 16 == 0


def test_attention_left_whole_where_no_multiple_fits() -> None:
    model = architecture(head_dim=6, channels=256)
    plan = allocate(model, random_scores(model), 0.2, WidthOptions(multiple_of=64))
    assert {len(layer.groups) for layer in plan.layers} == {4}


@pytest.mark.parametrize(("channels", "multiple"), list(itertools.product([1, 7, 16, 44], [1, 4, 16])))
def test_channel_sizes_by_brute_force(channels: int, multiple: int) -> None:
    kept = [size for size in range(channels - 1, 0, -1) if size % multiple == 0]
    assert list(channel_sizes(channels, multiple)) == [0, *(channels - size for size in kept)]


def test_equal_scores_are_decided_by_place() -> None:
    assert keep_highest([1.0, 1.0, 1.0], 1) == (0, 1)


def test_too_much_says_how_much_can_go() -> None:
    with pytest.raises(PlanError, match=r"ratio of 0\.9500 removes .* width can remove at most [\d,]+ \(0\.\d+\)"):
        check_ratio(architecture(), 0.95)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda scores: scores[:-1], "scores of 2 layers for a model of 3"),
        (lambda scores: [GroupScores([1.0], scores[0].mlp), *scores[1:]], "layer 0 has 4 key-value groups"),
        (lambda scores: [*scores[:2], GroupScores([float("nan")] * 4, scores[2].mlp)], "layer 2 .* not finite"),
    ],
)
def test_scores_that_do_not_fit(change, message: str) -> None:
    model = architecture()
    with pytest.raises(PlanError, match=message):
        allocate(model, change(random_scores(model)), 0.2)


def width_options(alpha: float, log: bool, **options: Any) -> WidthOptions:
    if options["allocation"] in ("inverse", "proportional"):
        options |= {"allocation": {options["allocation"]: {"alpha": alpha, "log": log}}}
    return WidthOptions(**{**options, "min_rate": min(options["min_rate"], options["max_rate"])})


WIDTH_OPTIONS = st.builds(
    width_options,
    allocation=st.sampled_from(["uniform", "inverse", "proportional", "global", "flap", "bi"]),
    split=st.sampled_from([None, "2:8", "0:1", "1:0"]),
    alpha=st.floats(0.2, 4),
    log=st.booleans(),
    min_rate=st.floats(0, 0.3),
    max_rate=st.floats(0.3, 1),
    freeze_top_layers=st.integers(0, 2),
    layer_range=st.sampled_from([None, "1:", ":-1", "12.5%:-6.25%"]),
)


@given(
    options=WIDTH_OPTIONS,
    groups=st.integers(1, 6),
    per_group=st.integers(1, 4),
    channels=st.integers(1, 60),
    ratio=st.floats(0.01, 0.7),
    importance=st.lists(st.floats(-2, 50), min_size=4, max_size=4),
    seed=st.integers(0, 99),
)
@settings(max_examples=400, deadline=None)
def test_every_allocation_reaches_the_total_within_its_clips_or_says_why(
    options: WidthOptions, groups: int, per_group: int, channels: int, ratio: float, importance: list[float], seed: int
) -> None:
    model = architecture(layers=4, groups=groups, heads_per_group=per_group, channels=channels)
    budget = round(ratio * model.total_parameters)
    try:
        plan = allocate(model, random_scores(model, seed), ratio, options, importance)
    except PlanError as error:
        assert re.search(r"at most|min_rate .* alone removes", str(error))
        return
    plan.check(model)
    shape = model.layers[0]
    whole = layers_kept_whole(4, options, importance)
    lost_groups = [groups - len(layer.groups) for layer in plan.layers]
    lost_channels = [channels - len(layer.channels) for layer in plan.layers]
    assert all(lost_groups[index] == lost_channels[index] == 0 for index in whole)
    assert all(lost <= max(0, options.max_rate * units + 1e-9) for lost, units in zip(
        lost_groups + lost_channels, [groups] * 4 + [channels] * 4, strict=True
    ))  # fmt: skip
    least = int(options.min_rate * channels + 1e-9)
    assert all(lost >= min(least, channels - 1) for index, lost in enumerate(lost_channels) if index not in whole)
    open_channels = any(
        lost < min(channels - 1, int(options.max_rate * channels + 1e-9))
        for index, lost in enumerate(lost_channels)
        if index not in whole
    )
    finest = shape.channel_parameters if open_channels else shape.group_parameters
    missed = budget - plan.removed_parameters(model)
    can_add_a_group = any(
        lost < min(groups - 1, int(options.max_rate * groups + 1e-9))
        for index, lost in enumerate(lost_groups)
        if index not in whole
    )
    # short by more than half a step only where no step is left
    assert missed <= finest / 2 or not (open_channels or can_add_a_group)
    assert -missed <= max(shape.group_parameters, shape.channel_parameters)


def test_attention_leaves_what_the_least_rate_takes_of_the_mlp() -> None:
    """Six of 26 channels go in every layer by the least rate alone; two groups besides would be too much."""
    model = architecture(layers=4, groups=4, heads_per_group=1, channels=26)
    budget = 0.125 * model.total_parameters
    plan = allocate(model, random_scores(model, 0), 0.125, WidthOptions(min_rate=0.234375))
    assert all(len(layer.channels) <= 20 for layer in plan.layers)
    assert abs(plan.removed_parameters(model) - budget) <= model.layers[0].channel_parameters


def test_targets_by_importance_by_hand() -> None:
    importance = [5.0, 1.0, 2.0, 1.0]

    def targets(name: str, values: list[float], **options: Any) -> list[float]:
        return ALLOCATION.make({name: options}).targets(0.2, len(values), values)

    assert targets("proportional", importance, log=False) == [1.0, 0.0, 0.25, 0.0]
    assert targets("inverse", importance, log=False, alpha=2) == [0.0, 1.0, 1 - 0.25**2, 1.0]
    # above the least: 4 and 1; their median, 2.5, is the unit of the logarithm
    logs = targets("proportional", importance)
    assert logs == pytest.approx([1.0, 0.0, math.log(1.4) / math.log(2.6), 0.0])
    assert targets("inverse", [3.0, 3.0]) == targets("proportional", [3.0, 3.0]) == [1.0, 1.0]
    scaled = [1000 * value - 7 for value in importance]
    assert targets("proportional", scaled) == pytest.approx(logs)


def test_important_layers_lose_less_or_more() -> None:
    model = architecture(layers=4, channels=200)
    rates = {}
    for allocation in ("inverse", "proportional"):
        options = WidthOptions(allocation=allocation, split="0:1", max_rate=0.9)
        plan = allocate(model, random_scores(model), 0.2, options, [9.0, 1.0, 2.0, 4.0])
        rates[allocation] = [200 - len(layer.channels) for layer in plan.layers]
    assert rates["inverse"][0] == 0 and rates["inverse"][1] > rates["inverse"][2] > rates["inverse"][3] > 0
    assert rates["proportional"][1] == 0 and rates["proportional"][0] > rates["proportional"][3] > 0


@pytest.mark.parametrize("seed", range(5))
def test_global_ranking_removes_what_is_worth_least_per_parameter(seed: int) -> None:
    """Against a plain sort of all groups of all layers."""
    model = architecture(layers=3, groups=4, channels=40)
    scores = random_scores(model, seed)
    plan = allocate(model, scores, 0.3, WidthOptions(allocation="global"))
    units = []
    for index, (own, shape) in enumerate(zip(scores, model.layers, strict=True)):
        for kind, values, cost in (
            ("group", own.attention, shape.group_parameters),
            ("channel", own.mlp, shape.channel_parameters),
        ):
            ranked = sorted(range(len(values)), key=lambda unit, values=values: values[unit])
            units += [(values[unit] / cost, index, kind, unit, cost) for unit in ranked[:-1]]
    left, closed, gone = round(0.3 * model.total_parameters), set(), set()
    for _, index, kind, unit, cost in sorted(units):
        if cost > left or (index, kind) in closed:
            closed.add((index, kind))  # too coarse for what is left
            continue
        left -= cost
        gone.add((index, kind, unit))
    removed = {
        *((i, "group", unit) for i in range(3) for unit in set(range(4)) - set(plan.layers[i].groups)),
        *((i, "channel", unit) for i in range(3) for unit in set(range(40)) - set(plan.layers[i].channels)),
    }
    # a last channel may bring the total closer from above
    assert gone <= removed and len(removed - gone) <= 1


def test_flap_ranks_by_distance_from_the_mean_of_a_layer_whatever_a_unit_costs() -> None:
    """Two channels stand out below, then a group; the group, which costs as much as sixteen channels, comes next."""
    model = architecture(layers=2, groups=4, heads_per_group=2, channels=40)
    assert model.layers[0].group_parameters == 16 * model.layers[0].channel_parameters
    even = [1.0, 2.0] * 20
    low = [*even[:-1], -30.0]
    # the other layer's scores are a thousand times as large
    scores = [
        GroupScores([5.0, 5.0, 5.0, 1.0], low),
        GroupScores([1e3, 2e3, 1e3, 2e3], [1e3 * score for score in low]),
    ]
    options = WidthOptions(allocation="flap")

    def removed(channels: int) -> list[tuple[set[int], set[int]]]:
        ratio = channels * model.layers[0].channel_parameters / model.total_parameters
        plan = allocate(model, scores, ratio, options)
        return [(set(range(4)) - set(layer.groups), set(range(40)) - set(layer.channels)) for layer in plan.layers]

    assert removed(2) == [(set(), {39}), (set(), {39})]
    assert removed(18) == [({3}, {39}), (set(), {39})]


def test_flap_takes_scores_that_are_divided_already_as_they_are() -> None:
    given = ALLOCATION.make({"flap": {"standardise": False}})
    assert given.compared([1.0, 2.0, 6.0]) == [-2.0, -1.0, 3.0]


def test_less_influence_loses_more() -> None:
    model = architecture(layers=4, channels=400)
    influence = [0.3, 0.1, 0.2, 0.1 + 0.05 * math.log(2)]
    lost = {}
    for temperature in (0.05, 1e6):
        options = WidthOptions(allocation={"bi": {"temperature": temperature}}, split="0:1")
        assert options.ranking == ("ShortGPT", {"samples": None}, None)
        plan = allocate(model, random_scores(model), 0.1, options, influence)
        lost[temperature] = [400 - len(layer.channels) for layer in plan.layers]
    assert lost[0.05][1] == pytest.approx(2 * lost[0.05][3], abs=2)
    assert lost[0.05][1] == pytest.approx(math.e**2 * lost[0.05][2], abs=8)
    assert max(lost[1e6]) - min(lost[1e6]) <= 1


def test_frozen_layers_and_range_by_hand() -> None:
    assert layers_kept_whole(4, WidthOptions(freeze_top_layers=2), [1.0, 9.0, 3.0, 5.0]) == {1, 3}
    assert layers_kept_whole(8, WidthOptions(layer_range="12.5%:-6.25%"), None) == {0, 7}
    assert layers_kept_whole(32, WidthOptions(layer_range="12.5%:-6.25%"), None) == {0, 1, 2, 3, 30, 31}


@pytest.mark.parametrize(
    ("options", "ratio", "message"),
    [
        ({"max_rate": 0.1}, 0.3, r"no layer may lose more than max_rate 0\.1, so width can remove at most"),
        ({"layer_range": "2:"}, 0.3, "keep 2 of 3 layers whole, so width can remove at most"),
        ({"min_rate": 0.5}, 0.1, r"min_rate 0\.5 alone removes"),
        ({"allocation": "inverse"}, 0.1, "needs a finite importance for each of the 3 layers, not None"),
    ],
)
def test_what_cannot_be_reached_says_why(options: dict[str, Any], ratio: float, message: str) -> None:
    model = architecture()
    with pytest.raises(PlanError, match=message):
        allocate(model, random_scores(model), ratio, WidthOptions(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"uniform": True, "layer_range": "1:"}, "cannot be combined with layer_range"),
        ({"uniform": True, "allocation": "inverse"}, "cannot be combined with allocation inverse"),
        ({"min_rate": 0.5, "max_rate": 0.2}, r"min_rate 0\.5 is above max_rate 0\.2"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WidthOptions(**options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"allocation": {"global": {"alpha": 2}}}, "global.alpha: unknown option"),
        ({"allocation": {"inverse": {"alhpa": 2}}}, "inverse.alhpa: unknown option; did you mean 'alpha'"),
        ({"allocation": {"inverse": {"alpha": 0}}}, "inverse.alpha: Input should be greater than 0, not 0"),
        ({"allocation": "invers"}, "unknown allocation 'invers'; did you mean 'inverse'"),
        ({"allocation": "owl"}, "'owl' shares a budget of sparse, not of width; write uniform, inverse"),
        ({"allocation": {"inverse": {}, "global": {}}}, "is no allocation; write a name, or"),
        ({"importance": "ShortGPT"}, "importance: no effect with .* inverse or proportional, or set freeze"),
        (
            {"importance": "ShortGPT", "allocation": {"inverse": {"importance": "Activation"}}},
            "importance: given twice, beside the allocation inverse and in its options",
        ),
    ],
)
def test_an_option_of_an_allocation_that_decides_nothing_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        WidthOptions(**options)


def test_importance_may_stand_beside_the_allocation_or_within_it() -> None:
    beside = WidthOptions(allocation="inverse", importance="ShortGPT", importance_samples=4)
    within = WidthOptions(allocation={"inverse": {"importance": "ShortGPT", "importance_samples": 4}})
    assert beside == within == WidthOptions(**within.model_dump())
    ranking = within.ranking
    assert ranking and ranking.method == "ShortGPT" and ranking.options == {"samples": 4}
    frozen = WidthOptions(freeze_top_layers=1, importance="Activation").ranking
    assert frozen and frozen.method == "Activation"
    assert WidthOptions().ranking is None


# allocations of single weights


def test_registered_allocations_are_complete() -> None:
    for name in ALLOCATIONS:
        cls = ALLOCATION.class_of(name)
        assert cls.title and set(cls.mechanisms) <= {"width", "sparse"}
        made = cls()
        assert bool(cls.needs) is (made.ranking is not None)
        assert ALLOCATION.read(name, cls.mechanisms[0]) == (
            {name: made.options.model_dump()} if cls.Options.model_fields else name
        )


SPARSE = [name for name in ALLOCATIONS if "sparse" in ALLOCATION.class_of(name).mechanisms]


@given(
    name=st.sampled_from(SPARSE),
    ratio=st.floats(0.01, 0.999),
    layers=st.lists(st.tuples(st.floats(0.1, 50), st.integers(1, 10**6)), min_size=1, max_size=12),
)
@settings(max_examples=300, deadline=None)
def test_ratios_of_layers_come_to_the_budget_in_parameters(
    name: str, ratio: float, layers: list[tuple[float, int]]
) -> None:
    sizes = [size for _, size in layers]
    targets = ALLOCATION.make(name).targets(ratio, len(layers), [score for score, _ in layers])
    ratios = layer_ratios(ratio, targets, sizes)
    assert sum(share * size for share, size in zip(ratios, sizes, strict=True)) == pytest.approx(ratio * sum(sizes))
    assert all(0 <= share <= max(ratio, 0.99) + 1e-12 for share in ratios)


def test_targets_of_layers_by_hand() -> None:
    # shares of outliers 0, 1, 4: densities rise by 0, a quarter and all of 0.16, and average to 0.3
    owl = ALLOCATION.make("owl").targets(0.7, 3, [0.0, 1.0, 4.0])
    mean = (0 + 0.04 + 0.16) / 3
    assert owl == pytest.approx([0.7 + mean, 0.7 + mean - 0.04, 0.7 + mean - 0.16])
    # the layer of the largest mean score loses most
    dlp = ALLOCATION.make({"dlp": {"spread": 0.1}}).targets(0.5, 2, [3.0, 1.0])
    assert dlp == pytest.approx([0.6, 0.4])
    assert ALLOCATION.make("alpha").targets(0.5, 3, [2.0, 4.0, 3.0]) == pytest.approx([0.7, 1.3, 1.0])
    assert ALLOCATION.make({"atp": {"slope": 0.5}}).targets(0.6, 3) == pytest.approx([0.4, 0.6, 0.8])
    assert ALLOCATION.make("atp").targets(0.6, 1) == [0.6]
    assert ALLOCATION.make("owl").targets(0.6, 2, [1.0, 1.0]) == [0.6, 0.6]


def test_a_layer_that_would_lose_more_than_all_leaves_the_rest_to_others() -> None:
    assert layer_ratios(0.8, [0.7, 1.3], [10, 10]) == pytest.approx([0.61, 0.99])
    assert layer_ratios(0.8, [1.0, 1.0], [10, 30]) == [0.8, 0.8]


@pytest.mark.parametrize(
    ("allocation", "told"),
    [
        ("inverse", "'inverse' shares a budget of width, not of sparse; write uniform, bi, owl"),
        ("olw", "unknown allocation 'olw'; did you mean 'owl'"),
        ({"owl": {"alpha": 2}}, "owl.alpha: unknown option"),
    ],
)
def test_what_sparse_cannot_share_by(allocation: Any, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        SparseOptions(allocation=allocation)

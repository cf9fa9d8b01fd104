"""The best model within limits: by size, its runner-up, ties, and what is said if nothing fits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_pruner.report.recommendation import (
    Limit,
    best_at_sizes,
    describe_choice,
    recommend,
    recommendation_table,
)
from llm_pruner.report.table import Model, Results
from llm_pruner.system.errors import DataError
from tests.tiny.results import BASE, RESULTS, SMALL, model, stored_in_few_bits


def test_best_at_sizes() -> None:
    at = {one.share: one for one in best_at_sizes(RESULTS, (1.0, 0.9, 0.8, 0.65, 0.4))}
    assert {share: one.choice.best and one.choice.best.name for share, one in at.items()} == {
        1.0: "Dense",
        0.9: "Tied",
        0.8: "Worse",
        0.65: "Small",
        0.4: None,
    }
    assert [at[share].choice.ties for share in (1.0, 0.9, 0.8)] == [("Tied",), ("Worse",), ()]
    assert at[0.9].limit == 900


def test_beside_the_best_in_few_bits_stands_the_best_that_is_not() -> None:
    few_bits = replace(model("Dense+nf4", 3000, 1.05, 1.05, 1.05), pruning=stored_in_few_bits("Dense+nf4"))
    # 8004 of 10,000 bytes are 80 % to a tenth of a percent
    close, small = model("Close", 8004, 1.2, 1.2, 1.2), model("Small", 6000, 2.0, 2.2, 2.1)
    base = model("Dense", 10_000, 1.0, 1.0, 1.0)
    at = {one.share: one for one in best_at_sizes(Results((base, close, few_bits, small), base))}
    assert {one.choice.best and one.choice.best.name for one in at.values()} == {"Dense+nf4"}
    assert {share: [found.name for found in one.models[1:]] for share, one in at.items()} == {
        0.9: ["Close"],
        0.8: ["Close"],
        0.7: ["Small"],
        0.6: ["Small"],
        0.5: [],
    }


def test_a_row_that_was_not_measured_is_never_best() -> None:
    results = Results((BASE, model("Unmeasured", 10), SMALL), BASE)
    assert {one.choice.best and one.choice.best.name for one in best_at_sizes(results)} == {"Small"}
    assert best_at_sizes(Results((SMALL,), Model("Dense"))) == []


def test_the_runner_up_is_told_apart_or_not() -> None:
    # Tied, Worse and Small keep it; Worse minus Tied is 0.067 ± 0.067
    near = recommend(RESULTS, [Limit("bytes_on_disk", 950)])
    assert near.best and near.runner_up
    assert (near.best.name, near.runner_up.name, near.apart) == ("Tied", "Worse", False)
    assert near.gap == (pytest.approx(0.2 / 3), pytest.approx(0.2 / 3))
    assert "cannot be told apart" in describe_choice(near, RESULTS)
    far = recommend(RESULTS, [Limit("bytes_on_disk", 850)])
    assert far.best and far.runner_up
    assert (far.best.name, far.runner_up.name, far.apart) == ("Worse", "Small", True)
    alone = recommend(RESULTS, [Limit("parameters", 125)])
    assert alone.best and alone.best.name == "Small" and alone.runner_up is None
    assert describe_choice(alone, RESULTS).endswith("no other row keeps these limits")


def test_several_limits_hold_together() -> None:
    both = recommend(RESULTS, [Limit("bytes_on_disk", 950), Limit("perplexity", 4, at_least=True)])
    assert both.best and both.best.name == "Small"


def test_if_nothing_fits_the_nearest_is_named() -> None:
    with pytest.raises(
        DataError, match=r"On disk ≤ 0\.0 MB \(nearest: Small, 0\.0 MB\) and Perplexity ≥ 99\.00 \(near"
    ):
        recommend(RESULTS, [Limit("bytes_on_disk", 400), Limit("perplexity", 99, at_least=True)])
    with pytest.raises(DataError, match="no row of this run has a value for Decode ms per token"):
        recommend(RESULTS, [Limit("decode_ms", 10)])


def test_the_table_has_a_row_for_each_share() -> None:
    frame = recommendation_table(RESULTS).frame
    assert frame["share"].tolist() == [0.9, 0.8, 0.7, 0.6, 0.5]
    assert frame["best"].tolist() == ["Tied", "Worse", "Small", "Small", "Small"]
    assert frame["runner_up"].fillna("").tolist() == ["Worse", "Small", "", "", ""]
    assert frame["apart"].fillna("").tolist() == ["no", "yes", "", "", ""]

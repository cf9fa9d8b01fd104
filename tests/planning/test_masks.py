"""Masks against brute force."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch

from llm_pruner.planning.masks import Pattern, n_of_m_mask, unstructured_mask
from llm_pruner.system.errors import PlanError


@pytest.fixture
def saliency() -> torch.Tensor:
    return torch.rand(6, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.99, 1.0])
def test_matrix(saliency: torch.Tensor, sparsity: float) -> None:
    mask = unstructured_mask(saliency, sparsity, "matrix")
    assert mask.sum() == int(saliency.numel() * sparsity)
    if 0 < mask.sum() < mask.numel():
        assert saliency[mask].max() < saliency[~mask].min()


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.8])
def test_rows(saliency: torch.Tensor, sparsity: float) -> None:
    for row, mask in zip(saliency, unstructured_mask(saliency, sparsity, "row"), strict=True):
        assert mask.sum() == int(24 * sparsity)
        assert row[mask].max() < row[~mask].min()


def test_ties_do_not_overshoot() -> None:
    mask = unstructured_mask(torch.zeros(4, 8, dtype=torch.bfloat16), 0.5, "matrix")
    assert mask.sum() == 16


@pytest.mark.parametrize("comparison", ["matrix", "row"])
@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_of_equals_the_first_go(comparison: Literal["matrix", "row"], sparsity: float) -> None:
    saliency = torch.randint(0, 4, (6, 24), generator=torch.Generator().manual_seed(0)).float()
    mask = unstructured_mask(saliency, sparsity, comparison)
    for values, chosen in zip(
        *((saliency, mask) if comparison == "row" else (saliency[None], mask[None])), strict=True
    ):
        lowest = values.flatten().argsort(stable=True)[: int(values.numel() * sparsity)]
        assert set(chosen.flatten().nonzero().flatten().tolist()) == set(lowest.tolist())


@pytest.mark.parametrize(("n", "m"), [(2, 4), (3, 8), (5, 12)])
def test_of_equals_in_a_group_the_first_go(n: int, m: int) -> None:
    mask = n_of_m_mask(torch.zeros(3, 24), n, m)
    assert torch.equal(mask, (torch.arange(24) % m < n).expand(3, 24))


def test_what_is_no_number_goes_last() -> None:
    saliency = torch.tensor([[math.nan, 3.0, 2.0, 1.0]])
    assert n_of_m_mask(saliency, 3, 4).tolist() == [[False, True, True, True]]
    assert unstructured_mask(saliency, 0.75, "row").tolist() == [[False, True, True, True]]
    assert unstructured_mask(saliency, 1.0, "row").all()


@pytest.mark.parametrize(("n", "m"), [(2, 4), (4, 8), (1, 4), (3, 4), (5, 12)])
def test_n_of_m(saliency: torch.Tensor, n: int, m: int) -> None:
    mask = n_of_m_mask(saliency, n, m)
    for row in range(6):
        for start in range(0, 24, m):
            group = saliency[row, start : start + m]
            expected = set(group.argsort()[:n].tolist())
            assert set(mask[row, start : start + m].nonzero().flatten().tolist()) == expected


def test_rows_that_m_does_not_divide(saliency: torch.Tensor) -> None:
    with pytest.raises(PlanError, match="rows of a multiple of 7 weights, not 24"):
        n_of_m_mask(saliency, 3, 7)


@pytest.mark.parametrize("pattern", [Pattern(0.5), Pattern(0.5, 2, 4), Pattern(0.25, 2, 8)])
def test_on_the_way_to_a_pattern(saliency: torch.Tensor, pattern: Pattern) -> None:
    whole = pattern.mask(saliency)
    assert torch.equal(pattern.partial_mask(saliency, 1), whole)
    part = pattern.partial_mask(saliency, 0.4)
    assert part.sum() == int(144 * pattern.share * 0.4)
    # the least salient of those that go in the end
    assert saliency[part].max() < saliency[whole & ~part].min()
    assert not (part & ~whole).any()

"""Which single weights go: unstructured by comparison group, or N of every M along a row."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from llm_pruner.system.errors import PlanError

if TYPE_CHECKING:
    import torch


_COMPARED = 8
"""Groups of up to so many are ranked by comparing every two members, faster than selecting within many small rows."""


def unstructured_mask(saliency: torch.Tensor, sparsity: float, comparison: Literal["matrix", "row"]) -> torch.Tensor:
    """Exactly the lowest share of weights, ties in index order.

    Args:
        saliency: [out_features, in_features].
        sparsity: share that goes, 0 … 1, of the whole matrix or of each row; counts are rounded down.
        comparison: ``matrix`` or ``row``.

    Returns:
        bool [out_features, in_features], True where a weight goes.
    """
    import torch

    ranked = _ordered(saliency.flatten().unsqueeze(0) if comparison == "matrix" else saliency)
    count = int(ranked.shape[1] * sparsity)
    if not count:
        return torch.zeros_like(saliency, dtype=torch.bool)
    # the highest that goes is found without sorting the others; of those equal to it the first go
    highest = ranked.kthvalue(count, dim=1, keepdim=True).values
    mask = ranked < highest
    equal = ranked == highest
    missing = count - mask.sum(dim=1, keepdim=True)
    if not torch.equal(equal.sum(dim=1, keepdim=True), missing):
        equal &= equal.cumsum(dim=1) <= missing
    return (mask | equal).view(saliency.shape)


def n_of_m_mask(saliency: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """The ``n`` lowest of every ``m`` consecutive inputs of a row.

    Args:
        saliency: [out_features, in_features], in_features a multiple of m.

    Returns:
        bool [out_features, in_features], True where a weight goes.

    Raises:
        PlanError: if the rows cannot be split into groups of m.
    """
    import torch

    rows, columns = saliency.shape
    if columns % m:
        raise PlanError(f"{n}:{m} sparsity needs rows that are multiples of {m} long, not {columns}")
    if m > _COMPARED:
        return unstructured_mask(saliency.reshape(-1, m), n / m, "row").view(rows, columns)
    members = _ordered(saliency).reshape(-1, m).T.contiguous()
    ranks = torch.zeros(members.shape, dtype=torch.uint8, device=members.device)
    for second in range(m):
        for first in range(second):
            before = members[first] <= members[second]
            ranks[second] += before
            ranks[first] += ~before
    return (ranks < n).T.reshape(rows, columns)


def _ordered(saliency: torch.Tensor) -> torch.Tensor:
    """With what is no number above all that are numbers, as nothing compares with it."""
    return saliency.nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf)

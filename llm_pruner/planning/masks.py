"""Which single weights go: unstructured by comparison group, or N of every M along a row."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from llm_pruner.system.errors import PlanError

if TYPE_CHECKING:
    import torch


_COMPARED = 8
"""Groups of up to so many are ranked by comparing every two members, faster than selecting within many small rows."""


class Pattern(NamedTuple):
    """How many weights of a linear layer go, and where: a share of them anywhere, or n of every m along a row."""

    share: float
    """Of the weights, 0 … 1."""
    n: int = 0
    m: int = 0
    """0 where zeros are free."""

    def mask(self, saliency: torch.Tensor, comparison: Literal["matrix", "row"] = "matrix") -> torch.Tensor:
        """The least salient weights.

        Args:
            saliency: [out_features, in_features].
            comparison: what is ranked against each other where zeros are free; see ``unstructured_mask``.

        Returns:
            bool [out_features, in_features], True where a weight goes.

        Raises:
            PlanError: if rows cannot be split into groups of m.
        """
        if self.m:
            return n_of_m_mask(saliency, self.n, self.m)
        return unstructured_mask(saliency, self.share, comparison)

    def partial_mask(
        self, saliency: torch.Tensor, part: float, comparison: Literal["matrix", "row"] = "matrix"
    ) -> torch.Tensor:
        """On the way to the pattern: the least salient weights, a ``part`` (0 … 1) of those that go in the end.

        Of every m no more than n go.
        """
        if not self.m:
            return unstructured_mask(saliency, self.share * part, comparison)
        if part == 1:
            return self.mask(saliency)
        # those that stay in the end go last
        return unstructured_mask(saliency.masked_fill(~self.mask(saliency), math.inf), self.share * part, "matrix")


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

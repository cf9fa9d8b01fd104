"""Masks of single weights to remove: any share of the weights, or N of every M along a row."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from llm_pruner.system.errors import PlanError

if TYPE_CHECKING:
    import torch


_COMPARED = 8
"""Largest M whose groups are ranked by comparing all pairs, which is faster than sorting many short rows."""


class Pattern(NamedTuple):
    """The zeros of a linear layer: a share of its weights at free places, or n of every m along a row."""

    share: float
    """Share of the weights to remove, 0 … 1."""
    n: int = 0
    m: int = 0
    """Group size; 0 for zeros at free places."""

    def mask(self, saliency: torch.Tensor, comparison: Literal["matrix", "row"] = "matrix") -> torch.Tensor:
        """Mask of the least salient weights.

        Args:
            saliency: float [out_features, in_features].
            comparison: scope of the ranking, see ``unstructured_mask``; without effect on n of every m.

        Returns:
            bool [out_features, in_features], True where a weight is removed.

        Raises:
            PlanError: if the length of a row is not a multiple of m.
        """
        if self.m:
            return n_of_m_mask(saliency, self.n, self.m)
        return unstructured_mask(saliency, self.share, comparison)

    def partial_mask(
        self, saliency: torch.Tensor, part: float, comparison: Literal["matrix", "row"] = "matrix"
    ) -> torch.Tensor:
        """Mask on the way to the pattern: removes the least salient ``part`` (0 … 1) of the pattern's zeros.

        At most n of every m are removed. Shapes and errors are those of ``mask``.
        """
        if not self.m:
            return unstructured_mask(saliency, self.share * part, comparison)
        if part == 1:
            return self.mask(saliency)
        # weights that the full pattern keeps rank last
        return unstructured_mask(saliency.masked_fill(~self.mask(saliency), math.inf), self.share * part, "matrix")


def unstructured_mask(saliency: torch.Tensor, sparsity: float, comparison: Literal["matrix", "row"]) -> torch.Tensor:
    """Mask of exactly the lowest share of weights. Of equal weights the first are removed.

    Args:
        saliency: float [out_features, in_features].
        sparsity: share to remove, 0 … 1, of the whole matrix or of each row; counts are rounded down.
        comparison: rank the weights of the whole ``matrix``, or of each ``row`` separately.

    Returns:
        bool [out_features, in_features], True where a weight is removed.
    """
    import torch

    ranked = _ordered(saliency.flatten().unsqueeze(0) if comparison == "matrix" else saliency)
    count = int(ranked.shape[1] * sparsity)
    if not count:
        return torch.zeros_like(saliency, dtype=torch.bool)
    # kthvalue finds the highest removed value without a full sort; of the values equal to it the first are removed
    highest = ranked.kthvalue(count, dim=1, keepdim=True).values
    mask = ranked < highest
    equal = ranked == highest
    missing = count - mask.sum(dim=1, keepdim=True)
    if not torch.equal(equal.sum(dim=1, keepdim=True), missing):
        equal &= equal.cumsum(dim=1) <= missing
    return (mask | equal).view(saliency.shape)


def n_of_m_mask(saliency: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """Mask of the ``n`` lowest of every ``m`` consecutive inputs of a row. Of equal weights the first are removed.

    Args:
        saliency: float [out_features, in_features], with in_features a multiple of m.

    Returns:
        bool [out_features, in_features], True where a weight is removed.

    Raises:
        PlanError: if in_features is not a multiple of m.
    """
    import torch

    rows, columns = saliency.shape
    if columns % m:
        raise PlanError(f"{n}:{m} sparsity needs rows of a multiple of {m} weights, not {columns}")
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
    """``saliency`` with NaN replaced by the highest value, because comparisons with NaN are always false."""
    return saliency.nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf)

"""Which single weights go: unstructured by comparison group, or N of every M along a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from llm_pruner.errors import PlanError

if TYPE_CHECKING:
    import torch


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

    ranked = saliency.flatten().unsqueeze(0) if comparison == "matrix" else saliency
    count = int(ranked.shape[1] * sparsity)
    lowest = torch.sort(ranked, dim=1, stable=True).indices[:, :count]
    mask = torch.zeros_like(ranked, dtype=torch.bool).scatter_(1, lowest, True)
    return mask.view(saliency.shape)


def n_of_m_mask(saliency: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """The ``n`` lowest of every ``m`` consecutive inputs of a row.

    Args:
        saliency: [out_features, in_features], in_features a multiple of m.

    Returns:
        bool [out_features, in_features], True where a weight goes.

    Raises:
        PlanError: if the rows cannot be split into groups of m.
    """
    rows, columns = saliency.shape
    if columns % m:
        raise PlanError(f"{n}:{m} sparsity needs rows that are multiples of {m} long, not {columns}")
    return unstructured_mask(saliency.reshape(-1, m), n / m, "row").view(rows, columns)

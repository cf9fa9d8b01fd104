from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.methods.base import ColumnMethod

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.evidence import Evidence


class MagnitudeSP(ColumnMethod):
    """Norm of each column, summed over the columns of a unit. Needs no data."""

    name = "MagnitudeSP"
    title = "Columns of output projections with the smallest norm"
    paper = (
        "An et al., Fluctuation-based Adaptive Structured Pruning for Large Language Models, 2023 (arXiv:2312.11983)"
    )

    def unit_scores(self, weight: torch.Tensor, evidence: Evidence, unit_size: int) -> torch.Tensor:
        return weight.float().norm(dim=0).view(-1, unit_size).sum(dim=1)

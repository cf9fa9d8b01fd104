from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.methods.base import CalibratedOptions, ColumnMethod

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.evidence import Evidence


class WandaSP(ColumnMethod):
    """Mean of |W_ij| · ‖X_j‖₂ over each column, summed over the columns of a unit."""

    name = "WandaSP"
    title = "Columns of output projections times the norm of their inputs"
    paper = (
        "a baseline of An et al., Fluctuation-based Adaptive Structured Pruning for Large Language Models, 2023 "
        "(arXiv:2312.11983)"
    )
    Options = CalibratedOptions
    evidence = "input_norm"

    def unit_scores(self, weight: torch.Tensor, evidence: Evidence, unit_size: int) -> torch.Tensor:
        assert evidence.input_norm is not None
        columns = weight.float().abs().mean(dim=0) * evidence.input_norm
        return columns.view(-1, unit_size).sum(dim=1)

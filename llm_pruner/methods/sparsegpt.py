from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeFloat

from llm_pruner.methods.base import CalibratedOptions, WeightSolver
from llm_pruner.scoring.quadratic import finite_moments, inverse_factor
from llm_pruner.system.options import Count

if TYPE_CHECKING:
    import torch

    from llm_pruner.planning.masks import Pattern
    from llm_pruner.scoring.evidence import Evidence


class SparseGptOptions(CalibratedOptions):
    """Options of the sweep over columns."""

    block: Count = 128
    """Number of columns whose weights are ranked together for unstructured zeros, rounded up to whole groups for
    N:M."""
    ridge: NonNegativeFloat = 0.01
    """Addition to the diagonal of the inputs' second moments, as a share of the mean diagonal."""


class SparseGPT(WeightSolver):
    """Optimal brain surgery in one sweep over columns: later columns compensate the zeros of each column.

    With U the upper Cholesky factor of H⁻¹, zeroing w_ij costs (w_ij / U_jj)², and the later columns of row i change
    by −w_ij / U_jj · U_j. Weights are ranked by their current values when the sweep reaches their block of columns, or
    their group of N:M.
    """

    name = "SparseGPT"
    title = "Zeros with the smallest error after compensation by later columns"
    paper = (
        "Frantar and Alistarh, SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot, 2023 "
        "(arXiv:2301.00774)"
    )
    Options = SparseGptOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        assert isinstance(self.options, SparseGptOptions)
        self.block = self.options.block
        self.ridge = self.options.ridge

    def solve(self, weight: torch.Tensor, evidence: Evidence, pattern: Pattern) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        factor = inverse_factor(evidence, self.ridge).float()
        silent = finite_moments(evidence).gram.diagonal() == 0
        # transposed, so that each column of the weight is contiguous in memory
        columns = weight.T.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        mask = torch.zeros(columns.shape, dtype=torch.bool, device=columns.device)
        chosen_together = pattern.m or self.block
        block = -(-self.block // chosen_together) * chosen_together
        for start in range(0, len(columns), block):
            end = min(start + block, len(columns))
            errors = torch.zeros_like(columns[start:end])
            for column in range(start, end):
                if (column - start) % chosen_together == 0:
                    group = slice(column, min(column + chosen_together, end))
                    scores = (columns[group] / factor.diagonal()[group, None]).square()
                    # weights of inputs that are always zero are removed first
                    mask[group] = pattern.mask(scores.masked_fill(silent[group, None], 0).T).T
                errors[column - start] = torch.where(mask[column], columns[column] / factor[column, column], 0)
                columns[column + 1 : end].addr_(factor[column, column + 1 : end], errors[column - start], alpha=-1)
            columns[end:].addmm_(factor[start:end, end:].T, errors, alpha=-1)
        return mask.T, columns.T

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from annotated_types import MinLen
from pydantic import PositiveFloat

from llm_pruner.repairs.linear import Candidate, LinearRepair, RepairOptions
from llm_pruner.scoring.quadratic import masked_solution
from llm_pruner.system.errors import PlanError
from llm_pruner.system.options import Count

if TYPE_CHECKING:
    import torch

    from llm_pruner.repairs.regression import Regression


class LeastSquaresOptions(RepairOptions):
    """Options of least squares; unknown keys are refused."""

    ridge: PositiveFloat | Annotated[tuple[PositiveFloat, ...], MinLen(1)] = (0.01, 0.1, 1.0)
    """Penalty on the distance to the original weights, in units of the mean squared input. From several values,
    held-out samples choose one for each linear layer. Fewer tokens need a larger ridge."""
    iterations: Count = 20
    """Iterations of conjugate gradients, for masks of single weights."""


class LeastSquares(LinearRepair):
    """Fits the kept weights to the target outputs by least squares over calibration tokens.

    If whole columns are removed, all output rows share one linear system, solved by Cholesky factorisation. If single
    weights are removed, each row has its own system, and conjugate gradients solve all rows together.
    """

    title = "Least-squares fit of the kept weights to the target outputs"
    paper = (
        "Optimal brain surgeon's joint solution, as in Meng et al., OSSCAR: One-Shot Structured Pruning in Vision and "
        "Language Models with Combinatorial Optimization, 2024 (arXiv:2403.12983); by conjugate gradients as in Meng "
        "et al., ALPS: Improved Optimization for Highly Sparse One-Shot Pruning for LLMs, 2024 (arXiv:2406.07831)"
    )
    Options = LeastSquaresOptions
    options: LeastSquaresOptions

    def candidates(self, weight: torch.Tensor, removed: torch.Tensor, regression: Regression) -> Iterator[Candidate]:
        solved = self._columns if removed.ndim == 1 else self._masked
        ridges = self.options.ridge
        for ridge in ridges if isinstance(ridges, tuple) else (ridges,):
            yield Candidate(solved(weight, removed, regression, ridge), settings={"ridge": ridge})

    def _columns(
        self, weight: torch.Tensor, removed: torch.Tensor, regression: Regression, ridge: float
    ) -> torch.Tensor:
        import torch

        hessian, wanted = _normal_equations(weight, regression, ridge)
        kept = (~removed).nonzero().flatten()
        inner = hessian[kept[:, None], kept]
        factor, failed = torch.linalg.cholesky_ex(inner)
        if failed:
            raise PlanError(
                f"least squares has no unique solution: the {len(kept)} kept inputs are linearly dependent over "
                f"{regression.moments.tokens} tokens; use more calibration samples or a ridge above {ridge:g}"
            )
        repaired = torch.zeros_like(weight)
        repaired[:, kept] = torch.cholesky_solve(wanted[:, kept].T, factor).T.float()
        return repaired

    def _masked(
        self, weight: torch.Tensor, removed: torch.Tensor, regression: Regression, ridge: float
    ) -> torch.Tensor:
        hessian, wanted = (part.float() for part in _normal_equations(weight, regression, ridge))
        return masked_solution(weight, removed, hessian, wanted, self.options.iterations)


def _normal_equations(weight: torch.Tensor, regression: Regression, ridge: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Means of x·xᵀ and of t·xᵀ, float64, both with the ridge, which penalises the distance to ``weight``."""
    hessian = regression.moments.hessian(ridge)
    mass = regression.moments.mass
    damping = hessian.diagonal() - regression.moments.gram.diagonal().double() / mass
    return hessian, regression.cross.double() / mass + weight.double() * damping

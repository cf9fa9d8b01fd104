from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from annotated_types import MinLen
from pydantic import PositiveFloat, PositiveInt

from llm_pruner.repairs.linear import Candidate, LinearRepair, RepairOptions
from llm_pruner.scoring.quadratic import masked_solution
from llm_pruner.system.errors import PlanError

if TYPE_CHECKING:
    import torch

    from llm_pruner.repairs.regression import Regression


class LeastSquaresOptions(RepairOptions):
    ridge: PositiveFloat | Annotated[tuple[PositiveFloat, ...], MinLen(1)] = (0.01, 0.1, 1.0)
    """Weight of the distance from the weights as they were, in units of the mean squared input. Of several, each linear
    layer gets the one that held-out samples prefer: the fewer tokens there are, the larger it has to be."""
    iterations: PositiveInt = 20
    """Steps of conjugate gradients, where single weights are gone."""


class LeastSquares(LinearRepair):
    """The kept weights that give the outputs nearest to the wanted ones, in the sum of squares over calibration tokens.

    Where whole columns are gone, one solution serves all outputs; where single weights are, every output row has kept
    weights of its own, and conjugate gradients solve all rows together.
    """

    title = "Least squares: the outputs nearest to those wanted"
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
                f"least squares has no solution: the {len(kept)} inputs that are kept depend on each other over "
                f"{regression.moments.tokens} tokens; give more calibration samples, or a ridge above {ridge:g}"
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
    """float64 mean of x·xᵀ and of t·xᵀ, both with the ridge, which draws towards ``weight``."""
    hessian = regression.moments.hessian(ridge)
    mass = regression.moments.mass
    damping = hessian.diagonal() - regression.moments.gram.diagonal().double() / mass
    return hessian, regression.cross.double() / mass + weight.double() * damping

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import NonNegativeFloat, PositiveFloat

from llm_pruner.methods.base import CalibratedOptions, WeightSolver
from llm_pruner.scoring.quadratic import finite_moments, masked_solution, singular, to_one_scale
from llm_pruner.system.options import Count, Natural

if TYPE_CHECKING:
    import torch

    from llm_pruner.planning.masks import Pattern
    from llm_pruner.scoring.evidence import Evidence

_CHECKED_EVERY = 3
"""Rounds between two checks of the mask's changes."""
_SETTLING = 30
"""Rounds before an almost constant mask ends the alternation."""
_SETTLED = 3e-4
"""Largest change of an almost constant mask, as a share of the kept weights."""
_FASTER = ((0.1, 1.3), (0.005, 1.2), (0.0, 1.1))
"""Pairs of a change of the mask, as a share of the kept weights, and the penalty's factor after a larger change."""
_LARGEST_PENALTY = 1e6


class AlpsOptions(CalibratedOptions):
    """Options of the alternation and of the fit after it."""

    iterations: Count = 300
    """Largest number of rounds, each a product of the weight and a square matrix. A constant mask ends them earlier."""
    penalty: PositiveFloat = 0.1
    """First penalty on the distance between sparse and fitted weights. The penalty grows while the mask changes."""
    refit: Natural = 10
    """Steps of conjugate gradients in the final fit of the kept weights."""
    ridge: NonNegativeFloat = 0.01
    """Addition to the diagonal of the inputs' second moments, as a share of the mean diagonal."""


class ALPS(WeightSolver):
    """ADMM with a penalty that grows until the mask is constant, and a final fit of the kept weights.

    The penalty starts small, so that the mask can change, and grows with every check. Conjugate gradients solve the
    final least-squares problem for the constant mask.
    """

    name = "ALPS"
    title = "Alternation of sparse and fitted weights with a growing penalty, then a fit of the kept weights"
    paper = (
        "Meng et al., ALPS: Improved Optimization for Highly Sparse One-Shot Pruning for Large Language Models, 2024 "
        "(arXiv:2406.07831)"
    )
    Options = AlpsOptions

    def solve(self, weight: torch.Tensor, evidence: Evidence, pattern: Pattern) -> tuple[torch.Tensor, torch.Tensor]:
        options = self.options
        assert isinstance(options, AlpsOptions)
        gram = finite_moments(evidence).gram.clone()
        silent = gram.diagonal() == 0
        gram.diagonal().add_(options.ridge * gram.diagonal().mean())
        gram, norms = to_one_scale(gram)
        # weights of inputs that are always zero are removed first
        dense = (weight.float() * norms).masked_fill(silent, 0)
        wanted = dense @ gram
        penalty, started = options.penalty, False
        fit_with = self._inverse(gram, penalty, evidence)
        nearest_mask = mask_before = pattern.mask(dense.abs())
        kept = mask_before.numel() - int(mask_before.sum())
        sparse = dense.masked_fill(nearest_mask, 0)
        pull = dense.new_zeros(dense.shape)
        fit = dense
        for number in range(1, options.iterations + 1):
            fit = (wanted - pull + penalty * sparse) @ fit_with
            both = fit + pull / penalty
            mask = pattern.mask(both.abs())
            sparse = both.masked_fill(mask, 0)
            pull += penalty * (fit - sparse)
            if number % _CHECKED_EVERY:
                continue
            changed = int((mask != mask_before).sum()) / max(kept, 1)
            mask_before = mask
            faster = next((factor for least, factor in _FASTER if changed > least), None)
            if started and faster is None:
                break
            if started or changed > _FASTER[1][0]:
                assert faster is not None
                started = True
                penalty = min(penalty * faster, _LARGEST_PENALTY)
            else:
                # the first penalty is too large: the mask does not change
                penalty /= 5
                if faster is not None:
                    sparse = dense.masked_fill(nearest_mask, 0)
                    pull.zero_()
            if number > _SETTLING and changed < _SETTLED:
                break
            fit_with = self._inverse(gram, penalty, evidence)
        mask = pattern.mask(fit.abs())
        solved = masked_solution(fit, mask, gram, wanted, options.refit) / norms
        return mask, solved.where(~silent, weight.float())

    def _inverse(self, gram: torch.Tensor, penalty: float, evidence: Evidence) -> torch.Tensor:
        """Inverse of the Gram matrix with the penalty on its diagonal.

        Raises:
            PlanError: if the matrix has no inverse.
        """
        import torch

        assert isinstance(self.options, AlpsOptions)
        stiff = gram.clone()
        stiff.diagonal().add_(penalty)
        factor, failed = torch.linalg.cholesky_ex(stiff)
        if failed:
            raise singular(evidence, self.options.ridge)
        return torch.cholesky_inverse(factor)

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat

from llm_pruner.methods.base import CalibratedOptions, WeightSolver
from llm_pruner.scoring.quadratic import finite_moments, singular, to_one_scale
from llm_pruner.system.options import Count

if TYPE_CHECKING:
    import torch

    from llm_pruner.planning.masks import Pattern
    from llm_pruner.scoring.evidence import Evidence

_PENALTY = 1.0
"""Penalty on the distance between fitted and sparse weights, with all features at one scale."""


class AdmmOptions(CalibratedOptions):
    """Options of the alternation."""

    iterations: Count = 20
    """Number of rounds, each a product of the weight and a square matrix."""
    mask_iterations: Count = 15
    """Number of first rounds that choose a new mask. Later rounds keep the last mask."""
    gradual: bool = True
    """Increase the number of zeros over the rounds that choose masks, by the cube of the share of rounds left. False
    takes all zeros from the first round on."""
    ridge: NonNegativeFloat = 0.1
    """Addition to the diagonal of the inputs' second moments, as a share of the mean diagonal."""
    comparison: Literal["matrix", "row"] = "matrix"
    """Scope of the ranking for unstructured zeros: the whole ``matrix``, or each output ``row``."""


class ADMM(WeightSolver):
    """Alternates between fitted weights, which reproduce the output best, and the nearest sparse weights.

    A penalty on their distance brings both together. Weights are multiplied by the norms of their inputs, so that the
    mask can compare their sizes.
    """

    name = "ADMM"
    title = "Alternation of sparse and fitted weights with a constant penalty"
    paper = "Boža, Fast and Effective Weight Update for Pruned Large Language Models, 2024 (arXiv:2401.02938)"
    Options = AdmmOptions

    def solve(self, weight: torch.Tensor, evidence: Evidence, pattern: Pattern) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        options = self.options
        assert isinstance(options, AdmmOptions)
        gram, norms = to_one_scale(finite_moments(evidence).gram)
        gram.diagonal().add_(options.ridge * gram.diagonal().mean())
        fit = weight.float() * norms
        wanted = fit @ gram
        gram.diagonal().add_(_PENALTY)
        factor, failed = torch.linalg.cholesky_ex(gram)
        if failed:
            raise singular(evidence, options.ridge)
        inverse = torch.cholesky_inverse(factor)
        disagreement = torch.zeros_like(fit)
        mask = torch.zeros(fit.shape, dtype=torch.bool, device=fit.device)
        rounds = min(options.mask_iterations, options.iterations)
        for number in range(options.iterations):
            both = fit + disagreement
            if number < rounds:
                left = 1 - (number + 1) / rounds
                part = 1 - left**3 if options.gradual else 1.0
                mask = pattern.partial_mask(both.abs(), part, options.comparison)
            sparse = both.masked_fill(mask, 0)
            disagreement = both - sparse
            fit = (wanted + _PENALTY * (sparse - disagreement)) @ inverse
        return mask, (fit + disagreement) / norms

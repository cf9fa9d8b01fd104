from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import NonNegativeFloat

from llm_pruner.refinements.base import Refinement
from llm_pruner.scoring.quadratic import finite_moments
from llm_pruner.system.options import Count, Options

if TYPE_CHECKING:
    import torch

    from llm_pruner.planning.masks import Pattern
    from llm_pruner.scoring.evidence import Evidence


class DsnotOptions(Options):
    """Options of the exchange by expected error."""

    cycles: Count = 50
    """Largest number of exchanges in each output row."""
    threshold: NonNegativeFloat = 0.1
    """Expected error, summed over a sample's tokens, at which a row needs no further exchange."""
    variance_power: NonNegativeFloat = 1.0
    """Power of the input variance that divides a zeroed weight's gain; 0 ignores the variance."""
    keep_sign: bool = False
    """Stop before an exchange that would flip the sign of a row's error. N:M patterns always stop there."""


class Dsnot(Refinement):
    """Restores the zeroed weight that cancels most of a row's expected error, and zeroes a cheap weight instead.

    The expected error of a row is the sum of w_j · E[x_j] over the zeroed weights. Unstructured exchanges zero only
    weights whose removal cancels error too.
    """

    title = "Exchanges that cancel the expected error of each output"
    paper = (
        "Zhang et al., Dynamic Sparse No Training: Training-Free Fine-tuning for Sparse LLMs, 2023 (arXiv:2310.08915)"
    )
    Options = DsnotOptions
    options: DsnotOptions

    def refine(self, mask: torch.Tensor, weight: torch.Tensor, evidence: Evidence, pattern: Pattern) -> torch.Tensor:
        import torch

        moments = finite_moments(evidence)
        assert evidence.input_norm is not None
        infinite = float("inf")
        expected = weight.float() * (moments.total / evidence.samples)
        cost = weight.float().abs() * evidence.input_norm
        gain = expected / moments.variance().clamp(min=1e-30).pow(self.options.variance_power)
        error = expected.masked_fill(~mask, 0).sum(dim=1)
        first_sign = error.sign()
        refined = mask.clone()
        gone, kept = mask.clone(), ~mask  # weights of both kinds that were never exchanged
        active = torch.ones_like(error, dtype=torch.bool)
        rows = torch.arange(len(error), device=error.device)
        for _ in range(self.options.cycles):
            active &= error.abs() > self.options.threshold
            if not active.any():
                break
            # terms of the error count as positive if they have the error's sign
            sign = torch.where(error > 0, 1.0, -1.0)[:, None]
            back_gain, back = (gain * sign).masked_fill(~gone, -infinite).max(dim=1)
            free = kept
            if pattern.m:
                places = torch.arange(mask.shape[1], device=mask.device) // pattern.m
                free = kept & (places == (back // pattern.m)[:, None])
            else:
                free = kept & (expected * sign < 0)
            away_cost, away = cost.masked_fill(~free, infinite).min(dim=1)
            after = error + expected[rows, away] - expected[rows, back]
            active &= (back_gain > 0) & (away_cost < infinite)
            if self.options.keep_sign or pattern.m:
                active &= after.sign() == first_sign
            error = torch.where(active, after, error)
            changed = rows[active]
            for places_of, state in ((back[active], False), (away[active], True)):
                refined[changed, places_of] = state
                gone[changed, places_of] = False
                kept[changed, places_of] = False
        return refined

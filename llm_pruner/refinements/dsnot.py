from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import NonNegativeFloat, PositiveInt

from llm_pruner.refinements.base import Refinement
from llm_pruner.scoring.quadratic import finite_moments
from llm_pruner.system.options import Options

if TYPE_CHECKING:
    import torch

    from llm_pruner.planning.masks import Pattern
    from llm_pruner.scoring.evidence import Evidence


class DsnotOptions(Options):
    """Options of the exchange by expected error."""

    cycles: PositiveInt = 50
    """Exchanges in each output row at most."""
    threshold: NonNegativeFloat = 0.1
    """A row is done when its expected error, summed over a sample's tokens, is not above this."""
    variance_power: NonNegativeFloat = 1.0
    """Power of the variance of inputs that what is brought back is divided by; 0 leaves it out."""
    keep_sign: bool = False
    """End a row before an exchange that would turn the sign of its error. N:M always does."""


class Dsnot(Refinement):
    """Brings back the weight that cancels most of a row's expected error, and lets a cheap one go that cancels more.

    The expected error of a row is the sum of w_j · E[x_j] over what is zeroed.
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
        gone, kept = mask.clone(), ~mask  # of either kind, what has not been exchanged
        active = torch.ones_like(error, dtype=torch.bool)
        rows = torch.arange(len(error), device=error.device)
        for _ in range(self.options.cycles):
            active &= error.abs() > self.options.threshold
            if not active.any():
                break
            # above zero, a share of the error with its own sign
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

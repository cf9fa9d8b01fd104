from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.refinements.base import Refinement
from llm_pruner.scoring.quadratic import finite_moments
from llm_pruner.system.options import Count, Options

if TYPE_CHECKING:
    import torch

    from llm_pruner.planning.masks import Pattern
    from llm_pruner.scoring.evidence import Evidence

_PAIRS_AT_ONCE = 2**24
"""Pairs of weights whose exchanges are evaluated at once, which limits memory."""
_WORTH = 1e-6
"""Smallest share of a row's error that an exchange must remove. Smaller gains may be rounding."""


class SparseSwapsOptions(Options):
    """Options of the exchange by squared error."""

    swaps: Count = 50
    """Largest number of exchanges in each output row."""
    candidates: Count = 8
    """Number of zeroed weights of a row to try against all kept weights: the weights whose return alone helps most. N:M
    patterns try all pairs in every group of M."""


class SparseSwapping(Refinement):
    """Makes the exchange that lowers a row's squared error most, and repeats until no exchange lowers the error.

    With G the Gram matrix and c = G·(w ∘ mask), the exchange that zeroes weight p and restores weight u changes the
    error of a row by 2·w_p·c_p + w_p²·G_pp − 2·w_u·c_u + w_u²·G_uu − 2·w_p·w_u·G_pu. No exchange raises the error.
    """

    title = "Exchanges that lower the squared error of each output most"
    paper = "Zimmer et al., SparseSwaps: Tractable LLM Pruning Mask Refinement at Scale, 2025 (arXiv:2512.10922)"
    Options = SparseSwapsOptions
    options: SparseSwapsOptions

    def refine(self, mask: torch.Tensor, weight: torch.Tensor, evidence: Evidence, pattern: Pattern) -> torch.Tensor:
        import torch

        gram = finite_moments(evidence).gram
        rows = max(1, _PAIRS_AT_ONCE // (self.options.candidates * mask.shape[1]))
        parts = zip(mask.split(rows), weight.float().split(rows), strict=True)
        return torch.cat([self._refine_rows(part.clone(), values, gram, pattern) for part, values in parts])

    def _refine_rows(
        self, mask: torch.Tensor, weight: torch.Tensor, gram: torch.Tensor, pattern: Pattern
    ) -> torch.Tensor:
        import torch

        diagonal = gram.diagonal()
        pull = weight.masked_fill(~mask, 0) @ gram
        active = torch.arange(len(mask), device=mask.device)
        for _ in range(self.options.swaps):
            gone, values, pulled = mask[active], weight[active], pull[active]
            squares = values.square() * diagonal
            away = (2 * values * pulled + squares).masked_fill(gone, float("inf"))
            back = (squares - 2 * values * pulled).masked_fill(~gone, float("inf"))
            search = self._best_in_groups if pattern.m else self._best_of_candidates
            change, leaving, returning = search(away, back, values, gram, pattern)
            error = (values.masked_fill(~gone, 0) * pulled).sum(dim=1)
            better = change < -_WORTH * error
            if not better.any():
                break
            active, leaving, returning = active[better], leaving[better], returning[better]
            mask[active, leaving], mask[active, returning] = True, False
            pull[active] += weight[active, leaving, None] * gram[leaving]
            pull[active] -= weight[active, returning, None] * gram[returning]
        return mask

    def _best_of_candidates(
        self, away: torch.Tensor, back: torch.Tensor, values: torch.Tensor, gram: torch.Tensor, pattern: Pattern
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The best exchange of each row: change of the error, column to zero, column to restore, each [rows]."""
        count = min(self.options.candidates, back.shape[1])
        alone, returning = back.topk(count, dim=1, largest=False)
        both = values.gather(1, returning)[:, :, None] * gram[returning] * values[:, None]
        change = (away[:, None] + alone[:, :, None] - 2 * both).flatten(1)
        best, place = change.min(dim=1)
        columns = away.shape[1]
        return best, place % columns, returning.gather(1, (place // columns)[:, None])[:, 0]

    def _best_in_groups(
        self, away: torch.Tensor, back: torch.Tensor, values: torch.Tensor, gram: torch.Tensor, pattern: Pattern
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The best exchange of each row within one group of M, as of ``_best_of_candidates``."""
        m = pattern.m
        away, back, values = (each.unflatten(1, (-1, m)) for each in (away, back, values))
        groups = len(gram) // m
        # the diagonal blocks of the Gram matrix, [groups, m, m]
        blocks = gram.view(groups, m, groups, m).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        both = values[..., :, None] * values[..., None, :] * blocks
        change = (away[..., :, None] + back[..., None, :] - 2 * both).flatten(1)
        best, place = change.min(dim=1)
        group, pair = place // (m * m), place % (m * m)
        return best, group * m + pair // m, group * m + pair % m

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from llm_pruner.methods.base import CalibratedOptions, ColumnMethod
from llm_pruner.system.options import Count

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.evidence import Evidence

_NEXT = 1 + 2e-8
"""Smallest ratio of a score to the score before it, so that nine digits distinguish them."""
_COMPACT = 0.875
"""Share of remaining units among those in memory below which the memory of removed units is freed."""


class ObsOptions(CalibratedOptions):
    """Options of structured optimal brain surgery."""

    rounds: Count | None = 64
    """Number of rounds. Each round removes the same number of units and then scores the others again; null removes one
    unit at a time."""
    ridge: float = Field(default=0.01, gt=0)
    """Addition to the diagonal of the inputs' second moments, as a share of the mean diagonal."""
    scale: Literal["stream", "output", "none"] = "stream"
    """Divisor that makes losses of different layers comparable: ``stream``, the squared norm of the residual stream
    after the block, token by token, as the next norm divides; ``output``, the squared norm of the linear layer's
    output; ``none``, no divisor."""


class OBS(ColumnMethod):
    """Loss that a unit's removal adds, in the order of removal, with the kept columns refitted each time.

    The loss is the squared error of the linear layer's output, mean over calibration tokens. Units are removed one
    after the other, smallest added loss first, until none is left. The scores of any number of removed units therefore
    add up to the loss of their removal.
    """

    name = "OBS"
    title = "Columns of output projections whose removal changes the output least after a refit of the others"
    paper = (
        "Meng et al., OSSCAR: One-Shot Structured Pruning in Vision and Language Models with Combinatorial "
        "Optimization, 2024 (arXiv:2403.12983)"
    )
    Options = ObsOptions
    options: ObsOptions
    evidence = "moments"
    defaults: ClassVar = {"allocation": "global"}

    def unit_scores(self, weight: torch.Tensor, evidence: Evidence, unit_size: int) -> torch.Tensor:
        import torch

        moments = evidence.moments
        assert moments is not None
        rows = weight.T.double()
        rows[moments.gram.diagonal() == 0] = 0  # weights of inputs that are always zero have no effect
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(moments.hessian(self.options.ridge)))
        units = len(rows) // unit_size
        at_once = math.ceil(units / self.options.rounds) if self.options.rounds else 1
        order, losses = losses_in_turn(rows, inverse, unit_size, at_once)
        scores = torch.zeros(units, dtype=torch.float64)
        last = 0.0
        for unit, loss in zip(order, losses, strict=True):
            scores[unit] = last = max(loss, last * _NEXT)
        return scores * self._scale(weight, evidence)

    def _scale(self, weight: torch.Tensor, evidence: Evidence) -> float:
        if self.options.scale == "stream":
            assert evidence.stream_weight is not None
            return evidence.stream_weight
        if self.options.scale == "output":
            assert evidence.moments is not None
            return 1 / (evidence.moments.loss(weight) or 1.0)
        return 1.0


def losses_in_turn(
    rows: torch.Tensor, inverse: torch.Tensor, unit_size: int, at_once: int
) -> tuple[list[int], list[float]]:
    """Remove all units, smallest added loss first, and refit the remaining rows after every round.

    Args:
        rows: float64 [in_features, out_features], the transposed weight; overwritten.
        inverse: float64 [in_features, in_features], inverse of the second moments; overwritten.
        unit_size: consecutive rows of one unit.
        at_once: units removed in one round.

    Returns:
        Units in the order of removal, and the loss that each adds to the loss of the units before it. Within a round
        the order is that of the losses before the round, but each added loss counts the units removed before.
    """
    import torch

    order: list[int] = []
    losses: list[float] = []
    held = torch.arange(len(rows) // unit_size, device=rows.device)
    there = torch.ones(len(held), dtype=torch.bool, device=rows.device)
    while left := int(there.sum()):
        if left < _COMPACT * len(held):
            kept = _columns(there.nonzero().flatten(), unit_size)
            held, rows, inverse = held[there], rows[kept], inverse[kept][:, kept]
            there = there[there]
        own = _own_losses(rows, inverse, unit_size, there).masked_fill(~there, math.inf)
        chosen = own.argsort(stable=True)[: min(at_once, left)]
        there[chosen] = False
        columns = _columns(chosen, unit_size)
        factor = torch.linalg.cholesky(inverse[columns][:, columns])
        seen = torch.linalg.solve_triangular(factor, rows[columns], upper=False)
        spread = torch.linalg.solve_triangular(factor, inverse[columns], upper=False)
        order += held[chosen].tolist()
        losses += seen.square().sum(dim=1).view(-1, unit_size).sum(dim=1).tolist()
        rows.addmm_(spread.T, seen, alpha=-1)
        inverse.addmm_(spread.T, spread, alpha=-1)
    return order, losses


def _columns(units: torch.Tensor, unit_size: int) -> torch.Tensor:
    """Indices of the columns of these units, int64, in the order of the units."""
    import torch

    return (units[:, None] * unit_size + torch.arange(unit_size, device=units.device)).flatten()


def _own_losses(rows: torch.Tensor, inverse: torch.Tensor, unit_size: int, there: torch.Tensor) -> torch.Tensor:
    """Loss that each unit adds if it is removed next and alone, float64 [units]. Values of removed units have no
    meaning."""
    import torch

    if unit_size == 1:
        return rows.square().sum(dim=1) / inverse.diagonal()
    losses = torch.full((len(there),), math.inf, dtype=rows.dtype, device=rows.device)
    for unit in there.nonzero().flatten().tolist():
        own = slice(unit * unit_size, (unit + 1) * unit_size)
        factor = torch.linalg.cholesky(inverse[own, own])
        losses[unit] = torch.linalg.solve_triangular(factor, rows[own], upper=False).square().sum()
    return losses

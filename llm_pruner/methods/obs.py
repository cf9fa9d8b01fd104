from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt

from llm_pruner.methods.base import CalibratedOptions, ColumnMethod

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.evidence import Evidence

_NEXT = 1 + 2e-8
"""What a score is of the one before at least, so that nine digits tell them apart."""
_COMPACT = 0.875
"""Share of the columns held that are still there, below which the others are let go of."""


class ObsOptions(CalibratedOptions):
    """Options of structured optimal brain surgery."""

    rounds: PositiveInt | None = 64
    """Units go in so many rounds of equally many, and are scored anew after each; null removes one at a time."""
    ridge: float = Field(default=0.01, gt=0)
    """What is added to the diagonal of the inputs' second moments, as a share of its mean."""
    scale: Literal["stream", "output", "none"] = "stream"
    """What the loss of one layer is divided by to be compared with those of others: the squared norm of the residual
    ``stream`` behind the block, token by token, which is what the next norm divides by; the squared norm of the linear
    layer's ``output``; ``none`` leaves it as it is."""


class OBS(ColumnMethod):
    """The loss that the removal of a unit adds when its turn comes, with the columns that stay refitted each time.

    The loss is the squared error of the linear layer's output, the mean over calibration tokens. Units are removed one
    after the other, always those that add least, until all are gone; so scores of the units that go add up to the loss
    of their going, whatever their number.
    """

    name = "OBS"
    title = "Columns of output projections whose removal, with the others refitted, changes the output least"
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
        rows[moments.gram.diagonal() == 0] = 0  # whatever they hold, it is never seen
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
    """Remove all units, those that add least loss first, and refit what is left after every round.

    Args:
        rows: float64 [in_features, out_features], the transposed weight.
        inverse: float64 [in_features, in_features], of the second moments.
        unit_size: consecutive rows that go together.
        at_once: units that go in a round.

    Returns:
        Units in the order in which they go, and the loss that each adds to that of those before it. Within a round the
        order is that of the scores before the round, and the losses are still those of one after the other.
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
    """Indices of the columns of units, in their order."""
    import torch

    return (units[:, None] * unit_size + torch.arange(unit_size, device=units.device)).flatten()


def _own_losses(rows: torch.Tensor, inverse: torch.Tensor, unit_size: int, there: torch.Tensor) -> torch.Tensor:
    """The loss that each unit adds if it goes next and alone, [units]; of units that are gone no number that counts."""
    import torch

    if unit_size == 1:
        return rows.square().sum(dim=1) / inverse.diagonal()
    losses = torch.full((len(there),), math.inf, dtype=rows.dtype, device=rows.device)
    for unit in there.nonzero().flatten().tolist():
        own = slice(unit * unit_size, (unit + 1) * unit_size)
        factor = torch.linalg.cholesky(inverse[own, own])
        losses[unit] = torch.linalg.solve_triangular(factor, rows[own], upper=False).square().sum()
    return losses

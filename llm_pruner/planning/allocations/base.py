"""The interface of allocations, which decide how much each layer loses in relation to the others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from llm_pruner.system.options import Options as AnyOptions


class Ranking(NamedTuple):
    """The layer scores that an allocation uses."""

    method: str
    """Name of the method or measure that gives the scores."""
    options: dict[str, Any]
    """Options of the method or measure."""
    implementation: str | None = None
    """``module:Class`` of a measure; None for a registered method that prunes by depth."""


class Allocation(ABC):
    """A rule for how layers share the budget, made from its options. Importing its module must not import torch.

    The budget (``planning/budget.py``) applies bounds and rounds to whole units, in the same way for every allocation.
    """

    title: ClassVar[str]
    """The rule in one line, for people."""
    paper: ClassVar[str] = ""
    """Citation of the source; empty if there is none."""
    mechanisms: ClassVar[tuple[str, ...]]
    """Mechanisms that the allocation works for: ``width``, ``sparse``."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Names of the layer scores that the rule uses, for people: ``importance``, or the name of a measure."""
    ranks_units: ClassVar[bool] = False
    """Whether the units of all layers are ranked together. The targets then have no effect."""
    per_parameter: ClassVar[bool] = True
    """Whether a ranking of all units divides a score by the unit's parameters."""
    Options: ClassVar[type[AnyOptions]] = AnyOptions

    def __init__(self, **options: Any) -> None:
        self.options = self.Options(**options)

    @property
    def ranking(self) -> Ranking | None:
        """The layer scores that ``targets`` receives; None if it uses none."""
        return None

    def compared(self, scores: Sequence[float]) -> list[float]:
        """Transform the scores of a layer's key-value groups, or of its MLP channels, for a ranking of all units."""
        return list(scores)

    @abstractmethod
    def targets(self, ratio: float, num_layers: int, scores: Sequence[float] | None = None) -> list[float]:
        """How much each layer should lose in relation to the others.

        Args:
            ratio: share that all layers lose together, 0 < ratio < 1.
            num_layers: number of layers of the model.
            scores: one number for each layer if ``ranking`` names scores, otherwise None.

        Returns:
            One target for each layer. Only the proportions count: the budget scales the targets until the layers,
            weighed by their parameters, lose ``ratio`` together, each within its bounds. A negative target counts as 0.
        """


def spread_around(ratio: float, values: Sequence[float], spread: float) -> list[float]:
    """Ratios that fall linearly in ``values``, with mean ``ratio`` and a range of ``2 * spread``.

    >>> spread_around(0.5, [1.0, 2.0, 3.0], 0.125)
    [0.625, 0.5, 0.375]
    """
    low, high = min(values), max(values)
    if low == high:
        return [ratio] * len(values)
    densities = [(value - low) / (high - low) * 2 * spread for value in values]
    mean = sum(densities) / len(densities)
    return [ratio + mean - density for density in densities]

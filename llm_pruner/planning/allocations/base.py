"""What an allocation is: how much each layer gives in comparison with the others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from llm_pruner.system.options import Options as AnyOptions


class Ranking(NamedTuple):
    """Layer scores that an allocation goes by."""

    method: str
    """Its name."""
    options: dict[str, Any]
    implementation: str | None = None
    """``module:Class`` of a measure; None for a registered method that prunes by depth."""


class Allocation(ABC):
    """How layers share the budget, made from its options. Pure: importing its module imports no torch.

    Bounds, and the rounding to whole units, are the budget's (``planning/budget.py``) and the same for all.
    """

    title: ClassVar[str]
    """One line for people."""
    paper: ClassVar[str] = ""
    """Where it comes from."""
    mechanisms: ClassVar[tuple[str, ...]]
    """Mechanisms whose layers can share a budget in this way: ``width``, ``sparse``."""
    needs: ClassVar[tuple[str, ...]] = ()
    """What it goes by besides the ratio, in words for people: ``importance`` of layers, or a measure of them."""
    ranks_units: ClassVar[bool] = False
    """Whether units of all layers are ranked together, so that targets decide nothing."""
    per_parameter: ClassVar[bool] = True
    """Whether units that are ranked together are ranked by score per parameter, rather than by score."""
    Options: ClassVar[type[AnyOptions]] = AnyOptions

    def __init__(self, **options: Any) -> None:
        self.options = self.Options(**options)

    @property
    def ranking(self) -> Ranking | None:
        """The layer scores that ``targets`` is given; None if it looks at none."""
        return None

    def compared(self, scores: Sequence[float]) -> list[float]:
        """The scores of a layer's key-value groups, or of its MLP channels, as units that are ranked together go by."""
        return list(scores)

    @abstractmethod
    def targets(self, ratio: float, num_layers: int, scores: Sequence[float] | None = None) -> list[float]:
        """How much each layer should lose in relation to the others.

        Args:
            ratio: share that all layers lose together.
            num_layers: of the model.
            scores: one number a layer, where ``ranking`` asks for them.

        Returns:
            One number a layer. Only their proportions count: the budget scales them until layers, weighed by their
            parameters, lose ``ratio`` together, each within its bounds. Below zero is zero.
        """


def spread_around(ratio: float, values: Sequence[float], spread: float) -> list[float]:
    """Ratios that fall as ``values`` rise, linearly: their mean is ``ratio``, their ends ``2 * spread`` apart.

    >>> spread_around(0.5, [1.0, 2.0, 3.0], 0.125)
    [0.625, 0.5, 0.375]
    """
    low, high = min(values), max(values)
    if low == high:
        return [ratio] * len(values)
    densities = [(value - low) / (high - low) * 2 * spread for value in values]
    mean = sum(densities) / len(densities)
    return [ratio + mean - density for density in densities]

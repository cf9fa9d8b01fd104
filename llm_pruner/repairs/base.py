"""What a repair is: what the kept weights of a linear layer become, once others of it are gone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from llm_pruner.system.options import Options

if TYPE_CHECKING:
    import torch

    from llm_pruner.repairs.regression import Regression


class RepairOptions(Options):
    inputs: Literal["dense", "sequential"] = "sequential"
    """What repaired layers read: the ``dense`` model's hidden states, or those of the layers pruned and repaired before
    them. Sequential repairs also make good what earlier layers left of the error."""
    samples: PositiveInt | None = None
    """Use the first n calibration samples; all of them by default."""
    held_out: float = Field(default=0.125, gt=0, lt=1)
    """The share of these that decides, layer by layer, whether a repair is kept."""


class Repair(ABC):
    """One way to set the kept weights anew, made from its options. Importing its module imports no torch."""

    title: ClassVar[str]
    """One line for people."""
    paper: ClassVar[str] = ""
    """Where it comes from."""
    mechanisms: ClassVar[tuple[str, ...]] = ("width", "sparse")
    """Mechanisms whose models it repairs."""
    Options: ClassVar[type[Options]] = RepairOptions

    def __init__(self, **options: Any) -> None:
        self.options = self.Options(**options)


class LinearRepair(Repair):
    """Repairs one linear layer after the other, each by a regression of its outputs on its inputs."""

    options: RepairOptions

    @abstractmethod
    def repaired(self, weight: torch.Tensor, removed: torch.Tensor, regression: Regression) -> torch.Tensor:
        """The weight whose removed entries are zero and whose kept ones are set anew.

        Args:
            weight: float32 [out_features, in_features], before anything was removed.
            removed: bool [in_features], whole columns, or [out_features, in_features], single weights.
            regression: what the outputs should be, on the samples to fit.

        Returns:
            float32 [out_features, in_features].

        Raises:
            PlanError: if the samples do not determine it.
        """

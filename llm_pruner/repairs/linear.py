"""Repairs that set one linear layer after the other anew."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from llm_pruner.repairs.base import Removed, Repair
from llm_pruner.repairs.records import LinearRepairRecord
from llm_pruner.repairs.walk import repair_linears, repair_model
from llm_pruner.system.options import Options
from llm_pruner.system.runtime import Runtime

if TYPE_CHECKING:
    import torch

    from llm_pruner.repairs.regression import Regression


@dataclass(frozen=True)
class Candidate:
    """One weight that a repair proposes, and a bias beside it where the repair adds one."""

    weight: torch.Tensor
    """float32 [out_features, in_features], zero where something is removed."""
    bias: torch.Tensor | None = None
    """float32 [out_features], added to that of the linear layer; only of repairs with ``adds_bias``."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What sets it apart from the repair's other candidates."""


class RepairOptions(Options):
    inputs: Literal["dense", "sequential"] = "sequential"
    """What repaired layers read: the ``dense`` model's hidden states, or those of the layers pruned and repaired before
    them. Sequential repairs also make good what earlier layers left of the error, where held-out samples show that
    they can."""
    weigh: Literal["stream", "equal"] = "stream"
    """How tokens count in what writes the residual stream: by one over the squared norm of the ``stream`` behind, since
    the norm that follows divides each token by its own; or all ``equal``, where few tokens of huge norm decide."""
    samples: PositiveInt | None = None
    """Use the first n calibration samples; all of them by default."""
    held_out: float = Field(default=0.125, gt=0, lt=1)
    """The share of these that decides, layer by layer, which repair is kept, or none."""


class LinearRepair(Repair):
    """Repairs one linear layer after the other, each by a regression of its outputs on its inputs."""

    Options: ClassVar[type[Options]] = RepairOptions
    options: RepairOptions

    def apply(
        self,
        base: Path,
        output: Path,
        removed: Removed,
        input_ids: torch.Tensor | None,
        runtime: Runtime,
        *,
        description: str = "layers",
        resume_point: Path | None = None,
    ) -> list[LinearRepairRecord]:
        assert input_ids is not None
        return repair_model(
            base,
            output,
            removed,
            self.options,
            partial(repair_linears, self),
            input_ids,
            runtime,
            adds_bias=self.adds_bias,
            description=description,
        )

    @abstractmethod
    def candidates(self, weight: torch.Tensor, removed: torch.Tensor, regression: Regression) -> Iterator[Candidate]:
        """Weights whose removed entries are zero and whose kept ones are set anew; held-out samples choose among them.

        Args:
            weight: float32 [out_features, in_features], before anything was removed.
            removed: bool [in_features], whole columns, or [out_features, in_features], single weights.
            regression: what the outputs should be, on the samples to fit.

        Raises:
            PlanError: if the samples do not determine one.
        """

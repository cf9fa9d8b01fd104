"""The base of repairs that change one linear layer at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from llm_pruner.repairs.base import Removed, Repair
from llm_pruner.repairs.records import LinearRepairRecord
from llm_pruner.repairs.walk import repair_linears, repair_model
from llm_pruner.system.options import Count, Options
from llm_pruner.system.runtime import Runtime

if TYPE_CHECKING:
    import torch

    from llm_pruner.repairs.regression import Regression


@dataclass(frozen=True)
class Candidate:
    """A repaired weight to try, with a bias if the repair adds one."""

    weight: torch.Tensor
    """float32 [out_features, in_features]; removed entries are zero."""
    bias: torch.Tensor | None = None
    """float32 [out_features], added to the linear layer's bias; only for repairs with ``adds_bias``."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings that distinguish the candidate from the repair's other candidates."""


class RepairOptions(Options):
    """Options of every repair that looks at calibration samples; unknown keys are refused."""

    inputs: Literal["dense", "sequential"] = "sequential"
    """Inputs of each layer to repair: hidden states of the ``dense`` model, or of the layers repaired before it
    (``sequential``). Sequential repairs can also correct errors that earlier layers left; held-out samples decide."""
    weigh: Literal["stream", "equal"] = "stream"
    """Weights of tokens in errors of the residual stream: one over the squared norm of the token's ``stream`` behind
    the block, because the next norm divides by it; or ``equal``, so that few tokens of huge norm dominate."""
    samples: Count | None = None
    """Use the first n calibration samples; all of them by default."""
    held_out: float = Field(default=0.125, gt=0, lt=1)
    """Share of the samples held out of the fit. Held-out samples choose the repair of each linear layer or block, or
    none."""


class LinearRepair(Repair):
    """Repairs one linear layer at a time, by a regression of its target outputs on its inputs."""

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
        """Repaired weights with zeros at the removed entries. Held-out samples choose the best candidate, or none.

        Args:
            weight: the original weight, float32 [out_features, in_features].
            removed: True for removed weights: bool [in_features] for whole columns, [out_features, in_features] for
                single weights.
            regression: inputs and target outputs on the samples to fit.

        Raises:
            PlanError: if the samples do not determine a candidate.
        """

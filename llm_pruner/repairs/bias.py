from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from llm_pruner.repairs.linear import Candidate, LinearRepair, RepairOptions

if TYPE_CHECKING:
    import torch

    from llm_pruner.repairs.regression import Regression


class BiasOptions(RepairOptions):
    """Options of the bias; unknown keys are refused."""

    held_out: float = Field(default=0.125, ge=0, lt=1)
    """Share of the samples held out of the fit. Held-out samples choose the repair of each linear layer, or none. With
    0, as published, all samples are fitted, and all of them choose."""


class Bias(LinearRepair):
    """Adds the mean contribution of the removed columns as a bias. The kept weights stay unchanged.

    With sequential inputs, the second candidate is the bias that restores the dense model's mean residual stream.
    """

    title = "A bias equal to the mean contribution of the removed inputs"
    paper = (
        "An et al., Fluctuation-based Adaptive Structured Pruning for Large Language Models, 2023 (arXiv:2312.11983)"
    )
    mechanisms = ("width",)
    adds_bias = True
    Options = BiasOptions
    options: BiasOptions

    def candidates(self, weight: torch.Tensor, removed: torch.Tensor, regression: Regression) -> Iterator[Candidate]:
        kept = weight.masked_fill(removed, 0)
        yield Candidate(kept, bias=regression.mean_error(kept))

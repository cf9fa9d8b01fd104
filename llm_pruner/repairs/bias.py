from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from llm_pruner.repairs.linear import Candidate, LinearRepair, RepairOptions

if TYPE_CHECKING:
    import torch

    from llm_pruner.repairs.regression import Regression


class BiasOptions(RepairOptions):
    held_out: float = Field(default=0.125, ge=0, lt=1)
    """The share of these that decides, layer by layer, which repair is kept, or none; with 0 all are fitted, as
    published, and decide."""


class Bias(LinearRepair):
    """What the columns that are gone gave on average stays, as a bias; the kept weights are what they were.

    With sequential inputs it can also take the mean of the residual stream to where the dense model has it.
    """

    title = "A bias in place of what the removed inputs gave on average"
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

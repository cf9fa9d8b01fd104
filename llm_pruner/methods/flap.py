from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from llm_pruner.methods.base import CalibratedOptions, ColumnMethod
from llm_pruner.models.layout import block_of_linear

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.evidence import Evidence


class FlapOptions(CalibratedOptions):
    """Options of fluctuation-based pruning."""

    metric: Literal["IFV", "WIFV", "WIFN"] = "WIFV"
    """Metric of an input X_j with its column W_:j: ``IFV`` Var(X_j), ``WIFV`` Var(X_j) · ‖W_:j‖², ``WIFN`` the mean of
    |W_ij| · ‖X_j‖."""
    squared_attention: bool = True
    """Square the metric of attention's columns before standardising, as the published code does."""


class FLAP(ColumnMethod):
    """Fluctuation of a column's input, mean over the columns of a unit.

    A bias can replace an input that hardly varies by its mean. ``WIFV`` is the squared error of the output after this
    replacement, mean over tokens, for each input separately. Metrics are divided by their standard deviation in the
    linear layer, so that layers are comparable.
    """

    name = "FLAP"
    title = "Columns of output projections whose inputs fluctuate least"
    paper = (
        "An et al., Fluctuation-based Adaptive Structured Pruning for Large Language Models, 2023 (arXiv:2312.11983)"
    )
    Options = FlapOptions
    options: FlapOptions
    evidence = "features"
    defaults: ClassVar = {
        "allocation": {"flap": {"standardise": False}},
        "repair": {"bias": {"inputs": "dense", "weigh": "equal", "held_out": 0}},
    }

    def unit_scores(self, weight: torch.Tensor, evidence: Evidence, unit_size: int) -> torch.Tensor:
        assert evidence.variance is not None and evidence.input_norm is not None
        weight = weight.float()
        if self.options.metric == "IFV":
            columns = evidence.variance
        elif self.options.metric == "WIFV":
            columns = evidence.variance * weight.square().sum(dim=0)
        else:
            columns = weight.abs().mean(dim=0) * evidence.input_norm
        if self.options.squared_attention and block_of_linear(evidence.linear) == "attention":
            columns = columns.square()
        return (columns / (columns.std() or 1.0)).view(-1, unit_size).mean(dim=1)

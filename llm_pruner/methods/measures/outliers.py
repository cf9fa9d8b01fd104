from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import PositiveFloat

from llm_pruner.methods.base import CalibratedOptions, LayerMeasure
from llm_pruner.methods.wanda import Wanda

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.evidence import Evidence


class OutlierOptions(CalibratedOptions):
    """Options of the share of outliers."""

    threshold: PositiveFloat = 5.0
    """A score above this multiple of the layer's mean score is an outlier."""


class Outliers(LayerMeasure):
    """Share of a layer's scores |W|·‖X‖ above ``threshold`` times their mean, in percent."""

    name = "Outliers"
    title = "Share of weights with an outlying score in their layer"
    Options = OutlierOptions
    options: OutlierOptions
    evidence = "input_norm"

    def measure(self, linears: Sequence[tuple[torch.Tensor, Evidence]]) -> float:
        wanda = Wanda()
        weights = sum(weight.numel() for weight, _ in linears)
        mean = sum(wanda.saliency(*linear).double().sum().item() for linear in linears) / weights
        # scores are computed again rather than kept: they take twice the memory of the weights
        above = sum(int((wanda.saliency(*linear) > self.options.threshold * mean).sum()) for linear in linears)
        return 100 * above / weights

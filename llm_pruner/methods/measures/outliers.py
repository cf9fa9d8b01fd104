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
    threshold: PositiveFloat = 5.0
    """How many times the layer's mean a score must be to be an outlier."""


class Outliers(LayerMeasure):
    """Share of a layer's scores |W|·‖X‖, in percent, that are above ``threshold`` times their mean."""

    name = "Outliers"
    title = "Share of weights whose score stands out in their layer"
    Options = OutlierOptions
    options: OutlierOptions
    evidence = "input_norm"

    def measure(self, linears: Sequence[tuple[torch.Tensor, Evidence]]) -> float:
        wanda = Wanda()
        weights = sum(weight.numel() for weight, _ in linears)
        mean = sum(wanda.saliency(*linear).double().sum().item() for linear in linears) / weights
        # a second time rather than held: the scores of a layer take twice its weights
        above = sum(int((wanda.saliency(*linear) > self.options.threshold * mean).sum()) for linear in linears)
        return 100 * above / weights

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm_pruner.methods.base import CalibratedOptions, LayerMeasure
from llm_pruner.methods.wanda import Wanda

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.evidence import Evidence


class MeanSaliency(LayerMeasure):
    """Mean of a layer's scores |W|·‖X‖ over all its weights."""

    name = "MeanSaliency"
    title = "Mean score of the weights"
    Options = CalibratedOptions
    evidence = "input_norm"

    def measure(self, linears: Sequence[tuple[torch.Tensor, Evidence]]) -> float:
        wanda = Wanda()
        total = sum(wanda.saliency(*linear).double().sum().item() for linear in linears)
        return total / sum(weight.numel() for weight, _ in linears)

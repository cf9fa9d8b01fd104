from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.methods.base import SaliencyMethod

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.evidence import Evidence


class Magnitude(SaliencyMethod):
    """|W_ij|: the absolute value of the weight. Needs no data."""

    name = "Magnitude"
    title = "Smallest absolute weights"
    paper = "Han et al., Learning both Weights and Connections for Efficient Neural Networks, 2015 (arXiv:1506.02626)"
    mechanisms = ("width", "sparse")
    comparison = "matrix"

    def saliency(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        return weight.float().abs()

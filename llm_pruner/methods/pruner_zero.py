from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.methods.base import CalibratedOptions, SaliencyMethod

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.evidence import Evidence


class PrunerZero(SaliencyMethod):
    """W_ij² · (G_ij − min G) / (max G − min G), with G_ij the root mean square of single samples' gradients.

    The authors found the formula by a search. Weights are compared within each output row; the smallest and the largest
    gradient are those of the whole matrix.
    """

    name = "PrunerZero"
    title = "Squared weights times the size of their gradients, scaled to 0 … 1"
    paper = (
        "Dong et al., Pruner-Zero: Evolving Symbolic Pruning Metric from scratch for Large Language Models, 2024 "
        "(arXiv:2406.02924)"
    )
    mechanisms = ("sparse",)
    Options = CalibratedOptions
    evidence = "curvature"
    comparison = "row"

    def saliency(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        assert evidence.curvature is not None
        gradient = evidence.curvature.sqrt()
        low, high = gradient.aminmax()
        scaled = (gradient - low) / (high - low) if high > low else 1.0
        return weight.float().square() * scaled

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeFloat

from llm_pruner.methods.base import CalibratedOptions, SaliencyMethod

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.evidence import Evidence


class GblmOptions(CalibratedOptions):
    """Options of the sum of gradients and activations."""

    alpha: NonNegativeFloat = 100.0
    """Weight of the gradients against the norms of inputs. Squared gradients are summed over samples, so four times the
    samples double their weight."""


class GBLM(SaliencyMethod):
    """|W_ij| · (‖X_j‖₂ + α √Σ_n G_ij,n²), with G_n the gradient of sample n's mean loss, compared in each output row.

    Gradients are those of the dense model. Norms are those of inputs from the earlier layers after pruning.
    """

    name = "GBLM"
    title = "Weights times the norm of their inputs and the size of their gradients"
    paper = "Das et al., Beyond Size: How Gradients Shape Pruning Decisions in LLMs, 2023 (arXiv:2311.04902)"
    mechanisms = ("sparse",)
    Options = GblmOptions
    evidence = "curvature"
    inputs = "input_norm"
    comparison = "row"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        assert isinstance(self.options, GblmOptions)
        self.alpha = self.options.alpha

    def saliency(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        assert evidence.input_norm is not None and evidence.curvature is not None
        gradient = (evidence.curvature * evidence.samples).sqrt()
        return weight.float().abs() * (evidence.input_norm + self.alpha * gradient)

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import NonNegativeFloat

from llm_pruner.methods.base import CalibratedOptions, SaliencyMethod

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.evidence import Evidence


class RiaOptions(CalibratedOptions):
    """Options of relative importance."""

    exponent: NonNegativeFloat = 0.5
    """Power of the input's norm; 0 ignores the inputs."""
    comparison: Literal["matrix", "row"] = "matrix"
    """Scope of the ranking for unstructured zeros: the whole ``matrix``, or each output ``row``."""


class RIA(SaliencyMethod):
    """(|W_ij| / Σ_i |W_ij| + |W_ij| / Σ_j |W_ij|) · ‖X_j‖₂^½: a weight's share of its column and of its row.

    Shares keep a row or column of small weights from losing all its weights.
    """

    name = "RIA"
    title = "Shares of weights in their row and column, times the root of the norm of their inputs"
    paper = "Zhang et al., Plug-and-Play: An Efficient Post-training Pruning Method for Large Language Models, 2024"
    mechanisms = ("sparse",)
    Options = RiaOptions
    evidence = "input_norm"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        assert isinstance(self.options, RiaOptions)
        self.exponent = self.options.exponent
        self.comparison = self.options.comparison

    def saliency(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        assert evidence.input_norm is not None
        size = weight.float().abs()
        # weights whose absolute values sum to zero have a share of zero
        shares = [size / size.sum(dim=dim, keepdim=True).clamp(min=1e-30) for dim in (0, 1)]
        return (shares[0] + shares[1]) * evidence.input_norm.pow(self.exponent)

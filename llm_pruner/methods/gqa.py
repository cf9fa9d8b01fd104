from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from llm_pruner.methods.base import CalibratedOptions, SaliencyMethod

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.evidence import Evidence


class TaylorOptions(CalibratedOptions):
    """Options of Taylor importance."""

    taylor: Literal["first", "second", "mixed", "vectorized"] = "first"
    """Importance of a weight w, with gradient g and mean squared gradient h of single samples: ``first`` |w·g|,
    ``second`` |w²·h|, ``mixed`` |w·g − ½·w²·h|, ``vectorized`` |Σ w·g| over each row or column of a unit."""
    gradient_checkpointing: bool = True
    """Compute a layer's activations again on the way back. False keeps all activations, which is faster but needs more
    memory."""


class GQA(SaliencyMethod):
    """Taylor estimate of the change of the loss when weights are removed.

    The estimates are summed over a key-value group with its query heads, which are contiguous, or over an MLP channel:
    the scored weights are those that width pruning cuts.
    """

    name = "GQA"
    title = "Taylor importance of whole key-value groups and MLP channels"
    paper = "Ma et al., LLM-Pruner: On the Structural Pruning of Large Language Models, 2023 (arXiv:2305.11627)"
    mechanisms = ("width",)
    Options = TaylorOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        assert isinstance(self.options, TaylorOptions)
        self.taylor = self.options.taylor
        self.checkpointing = self.options.gradient_checkpointing
        self.evidence = "curvature" if self.taylor in ("second", "mixed") else "gradient"

    def saliency(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        return self._change(weight, evidence).abs()

    def summed(self, weight: torch.Tensor, evidence: Evidence, dim: int) -> torch.Tensor:
        if self.taylor == "vectorized":
            return self._change(weight, evidence).sum(dim=dim).abs()
        return super().summed(weight, evidence, dim)

    def _change(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        """Estimated change of the loss, signed, float32 [out_features, in_features]."""
        weight = weight.float()
        change = weight.new_zeros(())
        if self.taylor != "second":
            assert evidence.gradient is not None
            change = weight * evidence.gradient.float()
        if self.evidence == "curvature":
            assert evidence.curvature is not None
            share = 1.0 if self.taylor == "second" else 0.5
            change = change - share * weight.square() * evidence.curvature.float()
        return change

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.methods.base import CalibratedOptions, SaliencyMethod

if TYPE_CHECKING:
    import torch

    from llm_pruner.evidence import Evidence


class GQA(SaliencyMethod):
    """|w · ∂L/∂w|: first-order Taylor estimate of the loss a weight's removal costs.

    Summed over a key-value group together with the query heads that share it, which are contiguous, so that what
    is scored is what is cut.
    """

    name = "GQA"
    title = "First-order Taylor importance of whole key-value groups and MLP channels"
    paper = "Ma et al., LLM-Pruner: On the Structural Pruning of Large Language Models, 2023 (arXiv:2305.11627)"
    families = ("width",)
    Options = CalibratedOptions
    evidence = "gradient"

    def saliency(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        assert evidence.gradient is not None
        return (weight.float() * evidence.gradient.float()).abs()

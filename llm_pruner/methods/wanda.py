from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from llm_pruner.methods.base import CalibratedOptions, SaliencyMethod

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.evidence import Evidence


class Wanda(SaliencyMethod):
    """|W_ij| · ‖X_j‖₂: weight times the norm of its input, compared within each output row."""

    name = "Wanda"
    title = "Weights times the norm of their input activations"
    paper = "Sun et al., A Simple and Effective Pruning Approach for Large Language Models, 2023 (arXiv:2306.11695)"
    mechanisms: ClassVar[tuple[str, ...]] = ("width", "sparse")
    Options = CalibratedOptions
    evidence = "input_norm"
    comparison = "row"

    def saliency(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        assert evidence.input_norm is not None
        return weight.float().abs() * evidence.input_norm

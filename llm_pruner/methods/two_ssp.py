from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from llm_pruner.methods.base import CalibratedOptions, ColumnMethod

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.evidence import Evidence


class TwoSSP(ColumnMethod):
    """Norm of an MLP channel's output over the tokens of a sample, mean over samples.

    This is the first stage of 2SSP, which removes MLP channels. The second stage removes attention blocks.
    """

    name = "TwoSSP"
    title = "MLP channels with the smallest output"
    paper = "Sandri et al., 2SSP: A Two-Stage Framework for Structured Pruning of LLMs, 2025 (arXiv:2501.17771)"
    Options = CalibratedOptions
    evidence = "features"
    defaults: ClassVar = {"split": "0:1"}

    def unit_scores(self, weight: torch.Tensor, evidence: Evidence, unit_size: int) -> torch.Tensor:
        assert evidence.mean_norm is not None
        return evidence.mean_norm.view(-1, unit_size).sum(dim=1)

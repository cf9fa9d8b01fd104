from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from llm_pruner.methods.base import CalibratedOptions, ColumnMethod

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.evidence import Evidence


class TwoSSP(ColumnMethod):
    """The norm of what an MLP channel gives over the tokens of a sample, the mean over samples.

    The first of the two stages of 2SSP, of MLP channels alone; the second drops attention blocks.
    """

    name = "TwoSSP"
    title = "MLP channels that give least"
    paper = "Sandri et al., 2SSP: A Two-Stage Framework for Structured Pruning of LLMs, 2025 (arXiv:2501.17771)"
    Options = CalibratedOptions
    evidence = "features"
    defaults: ClassVar = {"split": "0:1"}

    def unit_scores(self, weight: torch.Tensor, evidence: Evidence, unit_size: int) -> torch.Tensor:
        assert evidence.mean_norm is not None
        return evidence.mean_norm.view(-1, unit_size).sum(dim=1)

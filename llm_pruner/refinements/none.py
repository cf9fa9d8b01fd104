from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.refinements.base import Refinement

if TYPE_CHECKING:
    import torch

    from llm_pruner.planning.masks import Pattern
    from llm_pruner.scoring.evidence import Evidence


class Unrefined(Refinement):
    """Leaves the method's mask unchanged."""

    title = "No refinement: the method's own mask"

    def refine(self, mask: torch.Tensor, weight: torch.Tensor, evidence: Evidence, pattern: Pattern) -> torch.Tensor:
        return mask

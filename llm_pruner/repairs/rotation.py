from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from llm_pruner.repairs.linear import Candidate, LinearRepair, RepairOptions

if TYPE_CHECKING:
    import torch

    from llm_pruner.repairs.regression import Regression


class RotationOptions(RepairOptions):
    scale: bool = True
    """Also stretch or shrink all outputs by one factor."""


class Rotation(LinearRepair):
    """The outputs of what is kept are rotated, all together, to where they are nearest to the wanted ones.

    It has far fewer unknowns than least squares, so that few tokens determine it.
    """

    title = "Rotation of the outputs towards those wanted"
    paper = "Rotation-constrained parameter update (RCPU), 2026; the orthogonal Procrustes problem"
    mechanisms = ("width",)
    Options = RotationOptions
    options: RotationOptions

    def candidates(self, weight: torch.Tensor, removed: torch.Tensor, regression: Regression) -> Iterator[Candidate]:
        import torch

        kept = weight.double() * ~removed
        left, values, right = torch.linalg.svd(regression.cross.double() @ kept.T)
        rotated = left @ right @ kept
        if self.options.scale:
            energy = ((kept @ regression.moments.gram.double()) * kept).sum()
            rotated *= values.sum() / energy if energy > 0 else 1
        yield Candidate(rotated.float())

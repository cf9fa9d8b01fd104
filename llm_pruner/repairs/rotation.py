from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from llm_pruner.repairs.linear import Candidate, LinearRepair, RepairOptions

if TYPE_CHECKING:
    import torch

    from llm_pruner.repairs.regression import Regression


class RotationOptions(RepairOptions):
    """Options of the rotation; unknown keys are refused."""

    scale: bool = True
    """Multiply all outputs by the best common factor too."""


class Rotation(LinearRepair):
    """Rotates the outputs of the kept weights, by one rotation for all tokens, to fit the target outputs.

    A rotation has far fewer unknowns than least squares, so few tokens determine it.
    """

    title = "Rotation of the outputs to fit the target outputs"
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

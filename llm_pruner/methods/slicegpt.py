from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.methods.base import CalibratedOptions, RotationMethod

if TYPE_CHECKING:
    import torch

DAMPING = 0.01
"""Of the mean of the diagonal, as in the official implementation."""


class SliceGPT(RotationMethod):
    """Principal components of the residual stream at every position; the directions of least variance go.

    The kept directions stay as the analysis orders them. The official implementation then turns them at random, which
    changes nothing that the model computes, only how rounding is spread.
    """

    name = "SliceGPT"
    title = "Dimensions of the residual stream with the least variance, after rotation"
    paper = (
        "Ashkboos et al., SliceGPT: Compress Large Language Models by Deleting Rows and Columns, 2024 "
        "(arXiv:2401.15024)"
    )
    Options = CalibratedOptions

    def basis(self, moments: torch.Tensor) -> torch.Tensor:
        import torch

        damped = moments.clone()
        damped.diagonal().add_(DAMPING * moments.diagonal().mean())
        return torch.linalg.eigh(damped).eigenvectors.flip(1)

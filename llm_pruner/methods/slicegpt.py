from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.methods.base import CalibratedOptions, RotationMethod

if TYPE_CHECKING:
    import torch

DAMPING = 0.01
"""Addition to the diagonal, as a share of the mean diagonal, as in the official implementation."""


class SliceGPT(RotationMethod):
    """Principal components of the residual stream at every position. The directions of least variance are removed.

    The kept directions stay in the order of their variance. The official implementation also rotates them at random,
    which changes only rounding errors.
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

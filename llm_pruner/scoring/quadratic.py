"""The Gram matrix of a linear layer's inputs as solvers need it: looked over, factored, brought to one scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.system.errors import CheckpointError, PlanError

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.evidence import Evidence
    from llm_pruner.scoring.moments import Moments


def finite_moments(evidence: Evidence) -> Moments:
    """The moments of a linear layer's inputs.

    Raises:
        CheckpointError: if they are not finite.
    """
    assert evidence.moments is not None
    if not evidence.moments.gram.isfinite().all():
        raise CheckpointError(
            f"layer {evidence.layer}, {evidence.linear}: second moments of its inputs are not finite; the weights "
            "overflow in this dtype or are damaged"
        )
    return evidence.moments


def inverse_factor(evidence: Evidence, ridge: float) -> torch.Tensor:
    """Upper triangular U with UᵀU the inverse of ``Moments.hessian(ridge)``: float64 [in_features, in_features].

    Raises:
        CheckpointError: if the inputs are not finite.
        PlanError: if there is no inverse.
    """
    import torch

    hessian = finite_moments(evidence).hessian(ridge)
    # with columns and rows in reverse the lower factor becomes an upper one, whose inverse is U: nothing is squared
    lower, failed = torch.linalg.cholesky_ex(hessian.flip(0, 1))
    if failed:
        raise singular(evidence, ridge)
    identity = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
    return torch.linalg.solve_triangular(lower, identity, upper=False).flip(0, 1)


def to_one_scale(gram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A Gram matrix with features at one scale, and their scales.

    Args:
        gram: float32 [in_features, in_features].

    Returns:
        The matrix with a diagonal of one, but for features that are always zero; and float32 [in_features], the
        norms of features, above zero.
    """
    norms = gram.diagonal().sqrt()
    norms = norms.clamp(min=max(1e-8 * norms.max().item(), 1e-30))
    return gram / norms / norms[:, None], norms


def singular(evidence: Evidence, ridge: float) -> PlanError:
    """What is said where second moments cannot be inverted."""
    return PlanError(
        f"layer {evidence.layer}, {evidence.linear}: second moments of its inputs cannot be inverted with ridge "
        f"{ridge:g}; write a larger one, 0.01 for one, or take more calibration samples"
    )

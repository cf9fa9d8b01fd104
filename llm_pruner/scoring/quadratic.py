"""Gram matrices of a linear layer's inputs for solvers: checked, factored, scaled and solved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.system.errors import CheckpointError, PlanError

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.evidence import Evidence
    from llm_pruner.scoring.moments import Moments


ACCURACY = 1e-4
"""Relative error at which a solution is accurate enough."""


def finite_moments(evidence: Evidence) -> Moments:
    """The moments of a linear layer's inputs.

    Raises:
        CheckpointError: if the moments are not finite.
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
        CheckpointError: if the moments are not finite.
        PlanError: if the matrix has no inverse.
    """
    import torch

    hessian = finite_moments(evidence).hessian(ridge)
    # the lower factor of the reversed matrix, reversed again, is an upper factor whose inverse is U: the inverse of
    # the Hessian itself, which would lose precision, is never formed
    lower, failed = torch.linalg.cholesky_ex(hessian.flip(0, 1))
    if failed:
        raise singular(evidence, ridge)
    identity = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
    return torch.linalg.solve_triangular(lower, identity, upper=False).flip(0, 1)


def to_one_scale(gram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale a Gram matrix so that every feature has a norm of one.

    Args:
        gram: float32 [in_features, in_features].

    Returns:
        float32 [in_features, in_features], with a diagonal of one except at features that are always zero; and
        float32 [in_features], the features' norms before scaling, above zero.
    """
    norms = gram.diagonal().sqrt()
    norms = norms.clamp(min=max(1e-8 * norms.max().item(), 1e-30))
    return gram / norms / norms[:, None], norms


def masked_solution(
    start: torch.Tensor, mask: torch.Tensor, gram: torch.Tensor, wanted: torch.Tensor, steps: int
) -> torch.Tensor:
    """Solve ``weight @ gram == wanted`` at the kept weights of every row, with masked weights zero.

    Conjugate gradients run on all rows at once, with the diagonal as preconditioner. They end early once every row is
    within ``ACCURACY`` of its solution.

    Args:
        start: float32 [out_features, in_features], the first guess; its masked weights are ignored.
        mask: bool [out_features, in_features], True where a weight stays zero.
        gram: float32 [in_features, in_features], positive definite over the kept weights of every row, except at
            features that are always zero.
        wanted: float32 [out_features, in_features].
        steps: largest number of iterations; each is one product of the weight and ``gram``.

    Returns:
        float32 [out_features, in_features].
    """
    diagonal = gram.diagonal()
    scale = diagonal.where(diagonal > 0, 1)  # features that are always zero have a zero in ``wanted``
    solution = start.masked_fill(mask, 0)
    residual = (wanted - solution @ gram).masked_fill(mask, 0)
    direction = residual / scale
    size = (residual * direction).sum(dim=1, keepdim=True)
    enough = ACCURACY**2 * (wanted.square() / scale).sum(dim=1, keepdim=True)
    for _ in range(steps):
        if (size <= enough).all():
            break
        image = (direction @ gram).masked_fill(mask, 0)
        step = size / (direction * image).sum(dim=1, keepdim=True).clamp(min=1e-30)
        solution = solution + step * direction
        residual = residual - step * image
        preconditioned = residual / scale
        size, before = (residual * preconditioned).sum(dim=1, keepdim=True), size
        direction = preconditioned + size / before.clamp(min=1e-30) * direction
    return solution


def singular(evidence: Evidence, ridge: float) -> PlanError:
    """The error for second moments without an inverse."""
    return PlanError(
        f"layer {evidence.layer}, {evidence.linear}: second moments of its inputs cannot be inverted with ridge "
        f"{ridge:g}; choose a larger ridge, such as 0.01, or use more calibration samples"
    )

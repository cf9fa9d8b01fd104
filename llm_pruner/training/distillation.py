"""The loss of a student against its teacher, in nats."""

from __future__ import annotations

import torch
from torch.nn import functional


def distillation_loss(logits: torch.Tensor, teacher_logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL(teacher‖student) at a temperature τ, times τ², averaged over all tokens.

    The factor τ² keeps the gradient's size similar at every temperature (Hinton et al., 2015, arXiv:1503.02531).

    Args:
        logits, teacher_logits: [samples, length, vocabulary], any float dtype; computed in float32.
        temperature: τ > 0.
    """
    student, teacher = (
        functional.log_softmax(each.float().flatten(0, 1) / temperature, dim=-1) for each in (logits, teacher_logits)
    )
    return functional.kl_div(student, teacher, log_target=True, reduction="batchmean") * temperature**2

"""What healing minimises, in nats per token."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from llm_pruner.system.errors import CheckpointError
from llm_pruner.training.distillation import distillation_loss
from llm_pruner.training.options import DistillationOptions, HealingOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def next_token_loss(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the tokens after the first.

    Args:
        logits: [samples, length, vocabulary], any float dtype; the loss is computed in float32.
        ids: int64 [samples, length].
    """
    return functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten())


@dataclass(frozen=True)
class Objective:
    """The loss that the options ask for."""

    options: HealingOptions
    teacher: PreTrainedModel | None
    """Followed where the options are ``DistillationOptions``."""

    def loss(self, model: Any, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of a batch, int64 [samples, length], and the logits it comes from."""
        logits = model(input_ids=ids, use_cache=False).logits
        if not isinstance(self.options, DistillationOptions):
            return next_token_loss(logits, ids), logits
        assert self.teacher is not None
        with torch.no_grad():
            teacher_logits = self.teacher(input_ids=ids, use_cache=False).logits
        loss = distillation_loss(logits, teacher_logits, self.options.temperature)
        if self.options.ce_weight:
            loss = loss + self.options.ce_weight * next_token_loss(logits, ids)
        return loss, logits

    def measure(self, model: Any, windows: torch.Tensor, step: int) -> dict[str, Any]:
        """A point of the held-out curve, in evaluation mode; ``windows`` are int64 [samples, length].

        Raises:
            CheckpointError: if the loss or the perplexity is not finite.
        """
        model.eval()
        sums = torch.zeros(2, dtype=torch.float64)
        with torch.no_grad():
            for batch in windows.split(self.options.batch_size):
                ids = batch.to(model.device)
                loss, logits = self.loss(model, ids)
                both = torch.stack([loss, next_token_loss(logits, ids)])
                sums += len(ids) * both.to("cpu", torch.float64)
        loss, nll = sums / len(windows)
        return {
            "step": step,
            "loss": self.finite(loss.item(), step),
            "perplexity": self.finite(nll.exp().item(), step, "perplexity"),
        }

    def finite(self, value: float, step: int, name: str = "loss") -> float:
        """The value itself.

        Raises:
            CheckpointError: if it is NaN or infinite.
        """
        if math.isfinite(value):
            return value
        if step == 0:
            raise CheckpointError(
                f"{name} {value} before healing began; the model's weights overflow in this dtype or are damaged"
            )
        raise CheckpointError(
            f"healing diverged: {name} {value} at step {step}; lower healing's learning_rate, "
            f"which is {self.options.learning_rate:g}"
        )

"""Healing as a task of the training loop: the minimised loss, in nats per token, and the measurements."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from llm_pruner.data.order import sample_order
from llm_pruner.system.errors import CheckpointError
from llm_pruner.training.distillation import distillation_loss
from llm_pruner.training.loop import TrainingTask
from llm_pruner.training.options import HealByDistillationOptions, HealingOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def next_token_loss(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the tokens after the first.

    Args:
        logits: [samples, length, vocabulary], any float dtype; the loss is computed in float32.
        ids: int64 [samples, length].
    """
    return functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten())


class HealingTask(TrainingTask):
    """AdamW on the loss of the options. Only parameters that require gradients are trained and kept in resume points.

    Attributes:
        model: the measured model; after training, the caller replaces it with the merged model.
    """

    def __init__(
        self,
        model: Any,
        train: torch.Tensor,
        held_out: torch.Tensor,
        options: HealingOptions,
        teacher: PreTrainedModel | None = None,
    ) -> None:
        """Prepare to train ``model``.

        Args:
            model: a model whose trainable parameters are the adapters.
            train: int64 [samples, length].
            held_out: int64 [samples, length].
            teacher: the model to imitate, for ``HealByDistillationOptions``; not read otherwise.
        """
        self.model = model
        self.trained = nn.ParameterList(parameter for parameter in model.parameters() if parameter.requires_grad)
        self.train, self.held_out = train, held_out
        self.options = options
        self.teacher = teacher
        shape = (options.steps, options.gradient_accumulation, options.batch_size)
        self.order = sample_order(len(train), shape, options.seed)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        options = self.options
        return [
            torch.optim.AdamW(self.trained.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
        ]

    def begin(self, step: int) -> None:
        self.model.train()

    def gradients(self, step: int) -> float:
        batches = self.order[step]
        total = 0.0
        for rows in batches:
            loss, _ = self.loss(self.train[rows].to(self.model.device))
            (loss / len(batches)).backward()
            total += loss.item() / len(batches)
        return self._finite(total, step)

    def loss(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of a batch, int64 [samples, length], and its logits."""
        logits = self.model(input_ids=ids, use_cache=False).logits
        if not isinstance(self.options, HealByDistillationOptions):
            return next_token_loss(logits, ids), logits
        assert self.teacher is not None
        with torch.no_grad():
            teacher_logits = self.teacher(input_ids=ids, use_cache=False).logits
        loss = distillation_loss(logits, teacher_logits, self.options.temperature)
        if self.options.ce_weight:
            loss = loss + self.options.ce_weight * next_token_loss(logits, ids)
        return loss, logits

    def measure(self, step: int) -> dict[str, Any]:
        """A point of the held-out curve, in evaluation mode.

        Raises:
            CheckpointError: if the loss or the perplexity is not finite.
        """
        self.model.eval()
        sums = torch.zeros(2, dtype=torch.float64)
        with torch.no_grad():
            for batch in self.held_out.split(self.options.batch_size):
                ids = batch.to(self.model.device)
                loss, logits = self.loss(ids)
                both = torch.stack([loss, next_token_loss(logits, ids)])
                sums += len(ids) * both.to("cpu", torch.float64)
        loss, nll = sums / len(self.held_out)
        return {
            "step": step,
            "loss": self._finite(loss.item(), step),
            "perplexity": self._finite(nll.exp().item(), step, "perplexity"),
        }

    def _finite(self, value: float, step: int, name: str = "loss") -> float:
        """The value itself.

        Raises:
            CheckpointError: if it is NaN or infinite.
        """
        if math.isfinite(value):
            return value
        if step == 0:
            raise CheckpointError(
                f"{name} is {value} before healing; the model's weights overflow in this dtype or are damaged"
            )
        raise CheckpointError(
            f"healing diverged: {name} {value} at update {step}; lower healing's learning_rate, "
            f"now {self.options.learning_rate:g}"
        )

"""Loss of a student during distillation from its teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from llm_pruner.encoders.options import ClassifierDistillationOptions
from llm_pruner.encoders.tasks import Batch
from llm_pruner.system.errors import CheckpointError
from llm_pruner.training.distillation import distillation_loss

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Student(nn.Module):
    """Student of a distillation, with a trainable projection of its hidden states if the teacher's size differs.

    The projection is not saved with the model.

    Raises:
        CheckpointError: if student and teacher differ in their classes or their vocabulary.
    """

    def __init__(
        self, model: PreTrainedModel, teacher: PreTrainedModel, options: ClassifierDistillationOptions
    ) -> None:
        super().__init__()
        for key, what in (("num_labels", "classes"), ("vocab_size", "tokens")):
            theirs, ours = getattr(teacher.config, key), getattr(model.config, key)
            if theirs != ours:
                raise CheckpointError(
                    f"a teacher of {theirs} {what} cannot teach a student of {ours}; name models with equal {what}"
                )
        self.model = model
        self.options = options
        self._teacher = [teacher.eval().requires_grad_(False)]  # a list hides its parameters
        ours, theirs = model.config.hidden_size, teacher.config.hidden_size
        self.projection = nn.Linear(ours, theirs).to(model.device) if ours != theirs and options.beta_hidden else None
        if options.beta_attention:  # other implementations return no attention maps
            model.set_attn_implementation("eager")
            teacher.set_attn_implementation("eager")

    def loss(self, batch: Batch, head_masks: Sequence[torch.Tensor] | None = None) -> torch.Tensor:
        """Weighted sum of the four terms of the loss, a scalar.

        Args:
            head_masks: [heads] for each layer, 0 for a masked head; maps of masked heads do not count.
        """
        options = self.options
        wanted = {
            "output_hidden_states": bool(options.beta_hidden),
            "output_attentions": bool(options.beta_attention),
        }
        student = _run(self.model, batch, wanted)
        loss = options.beta_ce * functional.cross_entropy(student["logits"].float(), batch.labels)
        if not options.beta_logits + options.beta_hidden + options.beta_attention:
            return loss
        with torch.no_grad():
            teacher = _run(self._teacher[0], batch, wanted)
        # the loss expects [texts, tokens, classes]: one text, with one token per example
        rows = student["logits"][None], teacher["logits"][None]
        loss = loss + options.beta_logits * distillation_loss(*rows, options.temperature)
        if options.beta_hidden:
            loss = loss + options.beta_hidden * self._hidden_loss(student, teacher, batch.attention_mask)
        if options.beta_attention:
            loss = loss + options.beta_attention * _attention_loss(student, teacher, batch.attention_mask, head_masks)
        return loss

    def _hidden_loss(self, student: Mapping[str, Any], teacher: Mapping[str, Any], mask: torch.Tensor) -> torch.Tensor:
        """Mean squared error of embeddings and hidden states, over all tokens except padding."""
        losses = []
        for ours, theirs in matched(student["hidden_states"], teacher["hidden_states"]):
            projected = self.projection(ours) if self.projection is not None else ours
            losses.append(functional.mse_loss(projected[mask.bool()], theirs[mask.bool()]))
        return torch.stack(losses).mean()


def matched(student: tuple[Any, ...], teacher: tuple[Any, ...]) -> list[tuple[Any, Any]]:
    """Pair each layer of the student with the teacher's layer at the same relative depth, and last with last.

    >>> matched((1, 2), ("a", "b", "c", "d"))
    [(1, 'b'), (2, 'd')]
    """
    ratio = len(teacher) / len(student)
    return [(own, teacher[round((index + 1) * ratio) - 1]) for index, own in enumerate(student)]


def _attention_loss(
    student: Mapping[str, Any],
    teacher: Mapping[str, Any],
    mask: torch.Tensor,
    head_masks: Sequence[torch.Tensor] | None,
) -> torch.Tensor:
    """Mean squared error of attention maps, averaged over heads, without rows and columns of padding."""
    pairs = mask[:, :, None] * mask[:, None, :]
    losses = []
    for index, (ours, theirs) in enumerate(matched(student["attentions"], teacher["attentions"])):
        weights = ours.new_ones(ours.shape[1]) if head_masks is None else head_masks[index]
        own = torch.einsum("bhij,h->bij", ours, weights / weights.sum())
        losses.append(functional.mse_loss(own[pairs.bool()], theirs.mean(1)[pairs.bool()]))
    return torch.stack(losses).mean()


def _run(model: PreTrainedModel, batch: Batch, wanted: Mapping[str, bool]) -> Mapping[str, Any]:
    return model(**batch.inputs(model), **wanted)

"""How a pruned model is healed. Importing this needs no torch, so that configurations are checked at once."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from llm_pruner.models.layout import LINEARS
from llm_pruner.system.errors import nearest
from llm_pruner.system.options import Options

TARGETS = tuple(name.rpartition(".")[2] for name in LINEARS)
"""The linear layers of a block that may be healed, by the last part of their name."""


class HealingOptions(Options):
    """Options of every way of healing; unknown keys are refused."""

    rank: PositiveInt = 8
    """Rank of the change that each linear layer may undergo."""
    alpha: PositiveInt = 16
    """The change is multiplied by ``alpha / rank``."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on an adapter's input: drawn for each token, or for the whole batch if the model is sparse."""
    targets: tuple[str, ...] = Field(default=TARGETS, min_length=1)
    """The linear layers of every block that may change."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Peak learning rate of AdamW. The default is the usual one for billions of parameters; small models want more."""
    steps: PositiveInt = 500
    """Updates; the training samples are gone through as often as that needs."""
    batch_size: PositiveInt = 8
    """Samples on the device at once."""
    gradient_accumulation: PositiveInt = 1
    """Batches that make one update."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of an update's gradient; longer ones are scaled down to it."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps over which the learning rate rises; the last of them has the peak."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Pulls the change, not the weights, towards zero."""
    schedule: Literal["linear", "cosine"] = "linear"
    """How the learning rate falls to zero after the warm-up."""
    seed: NonNegativeInt = 0
    """Decides the order of the samples, the adapters' first values and dropout."""
    checks: int = Field(default=5, ge=2)
    """Points on the held-out curve, the first before healing and the last after merging."""

    @field_validator("targets")
    @classmethod
    def _known(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [
            f"unknown linear layer '{name}'{nearest(name, TARGETS)}" for name in targets if name not in TARGETS
        ]:
            raise ValueError("; ".join(unknown))
        return targets


class LoraOptions(HealingOptions):
    """Options of healing on the next-token loss."""


class HealByDistillationOptions(HealingOptions):
    """Options of healing by imitating the dense model, as in Muralidharan et al., 2024 (arXiv:2407.14679)."""

    temperature: float = Field(default=1.0, gt=0)
    """Both models' logits are divided by it before they are compared."""
    ce_weight: float = Field(default=0.0, ge=0)
    """Weight of the next-token loss beside the divergence; by default the teacher alone is followed."""

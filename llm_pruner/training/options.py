"""Options of healing. Imports no torch, so that a configuration is checked at once."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from llm_pruner.models.layout import LINEARS
from llm_pruner.system.errors import nearest
from llm_pruner.system.options import Count, Options, Seed

TARGETS = tuple(name.rpartition(".")[2] for name in LINEARS)
"""Linear layers that healing may change, by the last part of their names."""


class HealingOptions(Options):
    """Options of every kind of healing; unknown keys are refused."""

    rank: Count = 8
    """Rank of each linear layer's change."""
    alpha: Count = 16
    """The change is multiplied by ``alpha / rank``."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on an adapter's input: drawn for each token, or for the whole batch if the model is sparse."""
    targets: tuple[str, ...] = Field(default=TARGETS, min_length=1)
    """Linear layers to heal, in every block."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Peak learning rate of AdamW. The default is usual for billions of parameters; small models need a higher rate."""
    steps: Count = 500
    """Number of updates. The training samples are repeated as often as needed."""
    batch_size: Count = 8
    """Samples on the device at once."""
    gradient_accumulation: Count = 1
    """Batches that make one update."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of an update's gradient; longer gradients are scaled down to it."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the updates in which the learning rate rises; the last of these has the peak."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay of the adapters: pulls the change, not the weights, towards zero."""
    schedule: Literal["linear", "cosine"] = "linear"
    """Shape of the learning rate's fall to zero after the warm-up."""
    seed: Seed = 0
    """Seed of the order of the samples, the adapters' first values and dropout."""
    checks: int = Field(default=5, ge=2, le=10_000)
    """Number of points on the held-out curve: the first before healing, the last after merging."""

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
    """Divisor of both models' logits before the comparison."""
    ce_weight: float = Field(default=0.0, ge=0)
    """Weight of the next-token loss beside the divergence. By default the divergence from the teacher alone counts."""

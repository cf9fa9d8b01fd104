"""Size and training schedule of the built-in base model."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from llm_pruner.system.options import MANY, Count, Options

Positive = Annotated[float, Field(gt=0)]

BOS, EOS, PAD = SPECIAL = ("<s>", "</s>", "<pad>")


Size = Annotated[int, Field(ge=1, le=65_536)]
"""A width of a model that is trained on the spot."""
Layers = Annotated[int, Field(ge=1, le=1_000)]
"""Layers of such a model."""
_WEIGHTS = 1_000_000_000


def refuse_large(weights: int) -> None:
    """Raise ValueError if a model has too many weights to be trained on the spot."""
    if weights > _WEIGHTS:
        raise ValueError(f"these sizes make {weights:,} weights, more than {_WEIGHTS:,}; choose smaller ones")


class BuiltinModel(Options):
    """A small Llama with a byte-level tokenizer of its own."""

    vocab_size: int = Field(default=2048, ge=256 + len(SPECIAL), le=1_000_000)
    """Tokens: at least every byte and the special tokens."""
    hidden_size: Size = 128
    """Width of the residual stream."""
    num_hidden_layers: Layers = 8
    """Decoder layers."""
    num_attention_heads: Size = 8
    """Query heads of a layer."""
    num_key_value_heads: Size = 4
    """Key-value heads of a layer. The number of query heads must be a multiple of this number."""
    head_dim: Size = 16
    """Width of a head."""
    intermediate_size: Size = 384
    """MLP channels of a layer."""
    max_position_embeddings: Count = 512
    """Longest text, in tokens."""
    steps: Count = 720
    """Updates of the training."""
    batch_size: Count = 8
    """Samples in an update."""
    sequence_length: int = Field(default=128, ge=2, le=MANY)
    """Tokens in a sample; at most ``max_position_embeddings``."""
    muon_learning_rate: Positive = 0.03
    """Peak learning rate of the layers' matrices."""
    adamw_learning_rate: Positive = 0.03
    """Peak learning rate of embeddings and norms."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Weight decay of both optimisers."""
    warmup: float = Field(default=0.05, ge=0, le=1)
    """Share of the updates in which the learning rates rise linearly; then they fall linearly to zero."""
    clip: Positive = 1.0
    """Largest norm of an update's gradient."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_attention_heads must be a multiple of num_key_value_heads")
        if self.sequence_length > self.max_position_embeddings:
            raise ValueError("sequence_length must not exceed max_position_embeddings")
        attention = 2 * (self.num_attention_heads + self.num_key_value_heads) * self.head_dim
        layer = self.hidden_size * (attention + 3 * self.intermediate_size)
        refuse_large(self.vocab_size * self.hidden_size + self.num_hidden_layers * layer)
        return self

"""``+lora``: healing on the next-token loss."""

from __future__ import annotations

from llm_pruner.steps.healing import Healing
from llm_pruner.training.options import LoraOptions


class Lora(Healing):
    """Trains on text alone."""

    title = "Low-rank adapters trained on the next token"
    Options = LoraOptions

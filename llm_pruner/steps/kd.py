"""``+kd``: healing by imitating the dense model."""

from __future__ import annotations

from llm_pruner.steps.healing import Healing
from llm_pruner.training.options import HealByDistillationOptions


class Distillation(Healing):
    """Trains on the dense model's predictions for the text."""

    title = "Low-rank adapters trained on the dense model's predictions"
    Options = HealByDistillationOptions
    needs = ("base", *Healing.needs)

"""What can be done to a finished model, by the name behind the plus: ``GQA_2000+lora``."""

from __future__ import annotations

from llm_pruner.healing.options import DistillationOptions, HealingOptions, LoraOptions

STEPS: dict[str, type[HealingOptions]] = {"lora": LoraOptions, "kd": DistillationOptions}
"""Options by name."""

"""What can be done to a finished model, by the name behind the plus: ``GQA_2000+lora``."""

from __future__ import annotations

from pydantic import BaseModel

from llm_pruner.healing.options import DistillationOptions, LoraOptions

STEPS: dict[str, type[BaseModel]] = {"lora": LoraOptions, "kd": DistillationOptions}
"""Options by name."""

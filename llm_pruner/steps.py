"""What can be done to a finished model, by the name behind the plus: ``GQA_2000+lora``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from llm_pruner.healing.options import DistillationOptions, HealingOptions, LoraOptions


class NF4Options(BaseModel):
    """Options of storing a model in 4 bits; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    double_quant: bool = False
    """Quantise the scales of the blocks of 64 weights too, which saves 0.4 bits a weight."""
    compute_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What products are computed in; the dtype the model was stored in by default."""


HEALING: dict[str, type[HealingOptions]] = {"lora": LoraOptions, "kd": DistillationOptions}
"""Steps that train."""
QUANTIZING: dict[str, type[NF4Options]] = {"nf4": NF4Options}
"""Steps that store weights in fewer bits; nothing can follow them."""
STEPS: dict[str, type[BaseModel]] = {**HEALING, **QUANTIZING}
"""Options by name."""

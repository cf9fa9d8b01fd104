from __future__ import annotations

from typing import ClassVar

from llm_pruner.methods.wanda import Wanda


class DSnoT(Wanda):
    """Wanda's mask, refined by exchanges of weights until the expected error of each output is small."""

    name = "DSnoT"
    title = "Wanda, with exchanges that cancel the expected error of each output"
    paper = (
        "Zhang et al., Dynamic Sparse No Training: Training-Free Fine-tuning for Sparse LLMs, 2023 (arXiv:2310.08915)"
    )
    mechanisms: ClassVar[tuple[str, ...]] = ("sparse",)
    defaults: ClassVar = {"refine": "dsnot"}

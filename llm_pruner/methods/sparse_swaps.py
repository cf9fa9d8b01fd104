from __future__ import annotations

from typing import ClassVar

from llm_pruner.methods.wanda import Wanda


class SparseSwaps(Wanda):
    """Wanda's mask, refined by exchanges of weights as long as the squared error of an output falls."""

    name = "SparseSwaps"
    title = "Wanda, with exchanges that lower the squared error of each output"
    paper = "Zimmer et al., SparseSwaps: Tractable LLM Pruning Mask Refinement at Scale, 2025 (arXiv:2512.10922)"
    mechanisms: ClassVar[tuple[str, ...]] = ("sparse",)
    defaults: ClassVar = {"refine": "sparse_swaps"}

from __future__ import annotations

from typing import ClassVar

from llm_pruner.methods.gqa import GQA


class LLMPruner(GQA):
    """Taylor importance at one rate in all layers, except the first and last layers, which stay whole.

    The published setting prunes layers 4 to 29 of 32. Other depths keep the same shares, at least one layer each.
    """

    name = "LLMPruner"
    title = "Taylor importance, one rate, first and last layers kept"
    paper = "Ma et al., LLM-Pruner: On the Structural Pruning of Large Language Models, 2023 (arXiv:2305.11627)"
    scores_of = "GQA"
    defaults: ClassVar = {"layer_range": "12.5%:-6.25%"}

"""The choice of a repair, as configurations write it: ``bias``, or ``{least_squares: {ridge: 0.1}}``."""

from __future__ import annotations

from llm_pruner.system.choice import Choices

NONE = "none"

REPAIR = Choices(
    kind="repair",
    registry="llm_pruner.repairs:REPAIRS",
    does="repairs models of",
    example="{least_squares: {ridge: 0.1}}",
)
"""Repairs to choose from.

>>> REPAIR.read("none", "width")
'none'
"""

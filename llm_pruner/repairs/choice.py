"""The repair that a configuration chooses."""

from __future__ import annotations

from llm_pruner.system.choice import Choices

NONE = "none"

REPAIR = Choices(
    kind="repair",
    registry="llm_pruner.repairs:REPAIRS",
    does="repairs what is kept of",
    example="{least_squares: {ridge: 0.1}}",
)
"""What the kept weights become after a cut.

>>> REPAIR.read("none", "width")
'none'
"""

"""The allocation that a configuration chooses."""

from __future__ import annotations

from llm_pruner.system.choice import Choices

UNIFORM = "uniform"

ALLOCATION = Choices(
    kind="allocation",
    registry="llm_pruner.planning.allocations:ALLOCATIONS",
    does="shares a budget of",
    example="{inverse: {alpha: 2}}",
)
"""The choice of how layers share the budget.

>>> ALLOCATION.split({"inverse": {"alpha": 2}}), ALLOCATION.read("uniform", "width")
(('inverse', {'alpha': 2}), 'uniform')
>>> ALLOCATION.option_of("alpha", "width")
'an option of the allocation inverse or proportional: allocation: {inverse: {alpha: ...}}'
"""

"""The mechanisms. Each is written once and driven by any method that names it.

========  ===================================================================
dense     nothing goes
width     whole key-value groups with their query heads, and MLP channels
depth     whole layers
sparse    single weights, freely or N of every M
slice     dimensions of the residual stream
========  ===================================================================

A family's module has ``prune`` and, where scores do not depend on the amount, ``score``.
"""

from __future__ import annotations


def family_module(family: str) -> str:
    """Dotted name of the module that holds a family's mechanism."""
    return f"llm_pruner.families.{family}"

"""The choice of a refinement, as configurations write it: ``dsnot``, or ``{dsnot: {cycles: 10}}``."""

from __future__ import annotations

from llm_pruner.system.choice import Choices

UNREFINED = "none"
REFINEMENT = Choices("refine", "llm_pruner.refinements:REFINEMENTS", "refines masks of", "{dsnot: {cycles: 10}}")

"""Options of every method that prunes by slice."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from llm_pruner.mechanisms.base import MechanismOptions


class SliceOptions(MechanismOptions):
    multiple_of: PositiveInt = 8
    """Keep widths that are multiples of this, rounded down."""
    schedule: Literal["constant", "variance"] = "constant"
    """``constant`` gives every position the same width. ``variance`` gives each the smallest that keeps a share of its
    variance (of the sum of its eigenvalues, measured on the unsliced model, without damping), the same share for all,
    the largest for which the widths are on average no wider than asked."""

"""Options of every method that prunes by slice."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from llm_pruner.mechanisms.base import MechanismOptions


class SliceOptions(MechanismOptions):
    of: Literal["hidden", "parameters"] = "hidden"
    """What the amount is a share of: the ``hidden`` width, as published, or all ``parameters`` of the base. Slicing
    adds shortcuts and an output layer of its own, so a share of the width may remove nothing; of the parameters, the
    widest slices are taken that really remove so many."""
    multiple_of: PositiveInt = 8
    """Keep widths that are multiples of this, rounded down."""
    schedule: Literal["constant", "variance"] = "constant"
    """``constant`` gives every position the same width. ``variance`` gives each the smallest that keeps a share of its
    variance (of the sum of its eigenvalues, measured on the unsliced model, without damping), the same share for all,
    the largest for which the widths are on average no wider than asked."""

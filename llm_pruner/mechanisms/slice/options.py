"""Options of all methods that slice."""

from __future__ import annotations

from typing import Literal

from llm_pruner.mechanisms.base import MechanismOptions
from llm_pruner.system.options import Count


class SliceOptions(MechanismOptions):
    """Options of slicing, for every method."""

    of: Literal["hidden", "parameters"] = "hidden"
    """Whole of which the amount is a share: the ``hidden`` width, as published, or all ``parameters`` of the base.
    Slicing adds shortcuts and a separate output layer, so a share of the width may remove no parameters; for
    ``parameters``, the largest widths are taken that remove the amount."""
    multiple_of: Count = 8
    """Widths are multiples of this, rounded down."""
    schedule: Literal["constant", "variance"] = "constant"
    """Widths of the positions. ``constant`` gives all positions the same width. ``variance`` keeps about the same share
    of the variance (the sum of the eigenvalues of the unsliced model, without damping) at every position, the largest
    share that the amount allows."""

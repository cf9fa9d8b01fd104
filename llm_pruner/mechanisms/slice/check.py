"""Checks of slicing variants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.mechanisms.slice.options import SliceOptions
from llm_pruner.models.architecture import refuse_sliced
from llm_pruner.models.checkpoint import own_module
from llm_pruner.planning.slice_widths import constant_width, width_for_parameters
from llm_pruner.system.errors import PlanError

if TYPE_CHECKING:
    from llm_pruner.models.architecture import Architecture
    from llm_pruner.variants.variant import Variant


def check(variant: Variant, architecture: Architecture, tokens: int | None = None) -> None:
    """Raise PlanError if a model of this shape cannot lose the variant's amount.

    Args:
        variant: variant to make.
        architecture: shape of the base model.
        tokens: number of calibration tokens; None if unknown.
    """
    hidden = architecture.hidden_size
    refuse_sliced(architecture.config, architecture.folder)
    if not architecture.norms.rotatable:
        raise PlanError("slicing cannot fold the gain of a norm after a block into a linear layer")
    if own_module(architecture.config):
        raise PlanError(
            "the model's layers differ, or have biases that the family does not have; slicing needs layers of one "
            "shape, as uniform=true keeps them"
        )
    uniform_width(architecture, variant.amount, SliceOptions(**variant.options))
    if tokens is not None and tokens < hidden:
        raise PlanError(
            f"{tokens} calibration tokens do not span a hidden width of {hidden}; raise calibration.samples or length"
        )


def uniform_width(architecture: Architecture, amount: float, options: SliceOptions) -> int:
    """The common width of every position but the last.

    Raises:
        PlanError: if the amount leaves nothing or cannot be reached.
    """
    if options.of == "parameters":
        return width_for_parameters(architecture, amount, options.multiple_of)
    return constant_width(architecture.hidden_size, amount, options.multiple_of)

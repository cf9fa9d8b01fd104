"""How wide the residual stream stays at each position. Pure: spectra and a share in, widths out.

Positions are numbered through the model: 2i in front of layer i, 2i + 1 between its attention and its MLP. Behind the
last layer the stream keeps its full width, as the official implementation has it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from llm_pruner.models.layout import (
    EMBEDDING,
    LINEARS,
    NORMS,
    block_of_linear,
    component,
    layer_prefix,
    output_linears,
)
from llm_pruner.system.errors import PlanError

if TYPE_CHECKING:
    from llm_pruner.models.architecture import Architecture

Fits = Callable[[Sequence[int]], bool]
"""Whether widths of every position but the last leave no more than was asked for."""

_WRITING = frozenset(output_linears(LINEARS).values())

STEPS_OF_AMOUNT = 10_000
"""Amounts come in hundredths of a percent, so that widths are exact."""


def constant_width(hidden: int, amount: float, multiple_of: int) -> int:
    """The same width for all positions, at most what the amount leaves.

    >>> constant_width(64, 0.25, 8), constant_width(64, 0.2, 8)
    (48, 48)

    Raises:
        PlanError: if nothing is left.
    """
    width = _left(hidden, amount) // STEPS_OF_AMOUNT // multiple_of * multiple_of
    if width == 0:
        raise PlanError(
            f"{amount:.2%} of a hidden width of {hidden} leaves less than {multiple_of} dimensions, the least that "
            "multiple_of allows"
        )
    return width


def width_for_parameters(architecture: Architecture, ratio: float, multiple_of: int) -> int:
    """The same width for all positions, the largest that removes a share of all the base's parameters.

    Raises:
        PlanError: if even the narrowest slices do not.
    """
    positions = 2 * architecture.num_layers
    fits = removes_parameters(architecture, ratio)
    for width in range(architecture.hidden_size // multiple_of * multiple_of, 0, -multiple_of):
        if fits([width] * positions):
            return width
    most = 1 - sliced_parameters(architecture)([multiple_of] * positions) / architecture.total_parameters
    raise PlanError(
        f"slicing cannot remove {ratio:.2%} of the parameters: slices of width {multiple_of}, the least that "
        f"multiple_of allows, remove {most:.2%}"
    )


def widths_by_variance(spectra: Sequence[Sequence[float]], fits: Fits, multiple_of: int) -> list[int]:
    """Widths that keep one share of the variance at every position, the largest that fit.

    A position's share is the sum of its largest eigenvalues as a part of all. Widths grow in steps of ``multiple_of``
    where the share kept is lowest, of equals at the first, until the next step would not fit.

    Args:
        spectra: eigenvalues of each position, descending, none negative.
        fits: true of the narrowest widths, and of no wider ones than it is true of.
    """
    hidden = len(spectra[0])
    widths = [multiple_of] * len(spectra)
    kept = [_shares(spectrum) for spectrum in spectra]
    queue = [(kept[position][multiple_of - 1], position) for position in range(len(spectra))]
    heapq.heapify(queue)
    while queue:
        _, position = heapq.heappop(queue)
        narrower, wider = widths[position], min(widths[position] + multiple_of, hidden)
        widths[position] = wider
        if not fits(widths):
            widths[position] = narrower
            break
        if wider < hidden:
            heapq.heappush(queue, (kept[position][wider - 1], position))
    return widths


def removes_hidden(hidden: int, amount: float) -> Fits:
    """Widths that on average leave out a share of the hidden width."""
    return lambda widths: sum(widths) * STEPS_OF_AMOUNT <= _left(hidden, amount) * len(widths)


def removes_parameters(architecture: Architecture, ratio: float) -> Fits:
    """Widths of models with fewer parameters than the base, by a share of the base's."""
    most = architecture.total_parameters - round(ratio * architecture.total_parameters)
    parameters = sliced_parameters(architecture)
    return lambda widths: parameters(widths) <= most


def sliced_parameters(architecture: Architecture) -> Callable[[Sequence[int]], int]:
    """How many parameters a sliced model has, its shortcuts and its own output layer included.

    Returns:
        A function of the widths of every position but the last, which keeps the full hidden width.
    """
    hidden = architecture.hidden_size
    # what is as large at any width, and what goes with one dimension of each position
    fixed, by_position = 0, [0] * (2 * architecture.num_layers + 1)
    for name, tensor in architecture.tensors.items():
        index, _ = component(name)
        if index is None:
            if name == f"{EMBEDDING}.weight":
                by_position[0] += tensor.numel // hidden
                fixed += tensor.numel  # the output layer, or what the tied embedding becomes
            continue
        linear, _, kind = name.removeprefix(layer_prefix(index)).rpartition(".")
        position = 2 * index + (block_of_linear(linear) == "mlp")
        if linear in _WRITING:
            by_position[position + 1] += tensor.numel // hidden
        elif linear in LINEARS and kind == "weight":
            by_position[position] += tensor.numel // hidden
        elif linear not in NORMS[0].names:
            fixed += tensor.numel

    def parameters(widths: Sequence[int]) -> int:
        widths = [*widths, hidden]
        own = sum(count * width for count, width in zip(by_position, widths, strict=True))
        return fixed + own + sum(before * after for before, after in pairwise(widths))

    return parameters


def _left(hidden: int, amount: float) -> int:
    """What an amount leaves of the hidden width, in ten-thousandths of a dimension."""
    return hidden * (STEPS_OF_AMOUNT - round(amount * STEPS_OF_AMOUNT))


def _shares(spectrum: Sequence[float]) -> list[float]:
    """Share of the variance that the first 1, 2, 3 ... directions hold; all of it where there is none."""
    total = sum(spectrum)
    return [part / total if total else 1.0 for part in accumulate(spectrum)]

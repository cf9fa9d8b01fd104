"""Widths of the residual stream at each position, computed from spectra and the share to remove.

Positions are numbered through the model: 2i before layer i, 2i + 1 between its attention and its MLP block. After the
last layer the stream keeps its full width, as in the official implementation.
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
"""Whether widths, one for each position but the last, remove at least the requested amount."""

_WRITING = frozenset(output_linears(LINEARS).values())

STEPS_OF_AMOUNT = 10_000
"""Amounts are whole hundredths of a percent, so that integer arithmetic gives exact widths."""


def constant_width(hidden: int, amount: float, multiple_of: int) -> int:
    """The largest equal width of all positions that removes at least the amount.

    >>> constant_width(64, 0.25, 8), constant_width(64, 0.2, 8)
    (48, 48)

    Raises:
        PlanError: if the width is 0.
    """
    width = _left(hidden, amount) // STEPS_OF_AMOUNT // multiple_of * multiple_of
    if width == 0:
        raise PlanError(
            f"removing {amount:.2%} of a hidden width of {hidden} leaves fewer than {multiple_of} dimensions, the "
            "smallest width that multiple_of allows"
        )
    return width


def width_for_parameters(architecture: Architecture, ratio: float, multiple_of: int) -> int:
    """The largest equal width of all positions that removes at least a share of all the base's parameters.

    Raises:
        PlanError: if even the smallest width removes less.
    """
    positions = 2 * architecture.num_layers
    fits = removes_parameters(architecture, ratio)
    for width in range(architecture.hidden_size // multiple_of * multiple_of, 0, -multiple_of):
        if fits([width] * positions):
            return width
    most = 1 - sliced_parameters(architecture)([multiple_of] * positions) / architecture.total_parameters
    raise PlanError(
        f"slicing cannot remove {ratio:.2%} of the parameters: a width of {multiple_of}, the smallest that "
        f"multiple_of allows, removes {most:.2%}"
    )


def widths_by_variance(spectra: Sequence[Sequence[float]], fits: Fits, multiple_of: int) -> list[int]:
    """The largest fitting widths that keep about the same share of the variance at every position.

    The kept share of a position is the sum of its largest eigenvalues over the sum of all. Widths grow in steps of
    ``multiple_of``, each time at the position with the lowest kept share (the first of equals), until the next step
    does not fit.

    Args:
        spectra: eigenvalues of each position, descending, at least 0.
        fits: whether widths fit. True for the smallest widths; once false, false for all larger widths.

    Returns:
        One width for each position of ``spectra``.
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
    """Accepts widths that on average remove at least a share of the hidden width."""
    return lambda widths: sum(widths) * STEPS_OF_AMOUNT <= _left(hidden, amount) * len(widths)


def removes_parameters(architecture: Architecture, ratio: float) -> Fits:
    """Accepts widths of models that have fewer parameters than the base, by at least a share of the base's."""
    most = architecture.total_parameters - round(ratio * architecture.total_parameters)
    parameters = sliced_parameters(architecture)
    return lambda widths: parameters(widths) <= most


def sliced_parameters(architecture: Architecture) -> Callable[[Sequence[int]], int]:
    """Count the parameters of a sliced model, with its shortcuts and its separate output layer.

    Returns:
        A function from the widths of every position but the last to the count. The last position keeps the full width.
    """
    hidden = architecture.hidden_size
    # parameters that no width changes, and parameters for each dimension of a position
    fixed, by_position = 0, [0] * (2 * architecture.num_layers + 1)
    for name, tensor in architecture.tensors.items():
        index, _ = component(name)
        if index is None:
            if name == f"{EMBEDDING}.weight":
                by_position[0] += tensor.numel // hidden
                fixed += tensor.numel  # the output layer; a tied embedding becomes a separate one
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
    """Hidden width left by an amount, in ten-thousandths of a dimension."""
    return hidden * (STEPS_OF_AMOUNT - round(amount * STEPS_OF_AMOUNT))


def _shares(spectrum: Sequence[float]) -> list[float]:
    """Share of the variance in the first 1, 2, 3 ... directions; 1 each if there is no variance."""
    total = sum(spectrum)
    return [part / total if total else 1.0 for part in accumulate(spectrum)]

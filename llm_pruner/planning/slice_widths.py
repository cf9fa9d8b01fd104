"""How wide the residual stream stays at each position. Pure: spectra and a share in, widths out.

Positions are numbered through the model: 2i in front of layer i, 2i + 1 between its attention and its MLP. Behind the
last layer the stream keeps its full width, as the official implementation has it.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import accumulate

from llm_pruner.system.errors import PlanError

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


def widths_by_variance(spectra: Sequence[Sequence[float]], amount: float, multiple_of: int) -> list[int]:
    """Widths that keep one share of the variance at every position, the largest that the mean width allows.

    A position's share is the sum of its largest eigenvalues as a part of all. Widths grow in steps of ``multiple_of``
    where the share kept is lowest, of equals at the first, until the next step would make the mean wider than asked.

    Args:
        spectra: eigenvalues of each position, descending, none negative.
        amount: share of the hidden width that goes, on average.

    Raises:
        PlanError: if that leaves nothing.
    """
    hidden = len(spectra[0])
    constant_width(hidden, amount, multiple_of)
    widths = [multiple_of] * len(spectra)
    kept = [_shares(spectrum) for spectrum in spectra]
    queue = [(kept[position][multiple_of - 1], position) for position in range(len(spectra))]
    heapq.heapify(queue)
    while queue:
        _, position = heapq.heappop(queue)
        wider = min(widths[position] + multiple_of, hidden)
        if (sum(widths) - widths[position] + wider) * STEPS_OF_AMOUNT > _left(hidden, amount) * len(spectra):
            break
        widths[position] = wider
        if wider < hidden:
            heapq.heappush(queue, (kept[position][wider - 1], position))
    return widths


def _left(hidden: int, amount: float) -> int:
    """What an amount leaves of the hidden width, in ten-thousandths of a dimension."""
    return hidden * (STEPS_OF_AMOUNT - round(amount * STEPS_OF_AMOUNT))


def _shares(spectrum: Sequence[float]) -> list[float]:
    """Share of the variance that the first 1, 2, 3 ... directions hold; all of it where there is none."""
    total = sum(spectrum)
    return [part / total if total else 1.0 for part in accumulate(spectrum)]

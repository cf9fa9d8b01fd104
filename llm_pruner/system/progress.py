"""Progress bars on stderr: redrawn in place on a terminal, a line from time to time in a log file."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")

_LOG_INTERVAL = 10.0


def track(items: Iterable[T], description: str, unit: str, *, show: bool) -> tqdm[T]:
    """Iterate over ``items``, with a progress bar if ``show`` is true."""
    from tqdm import tqdm

    return tqdm(
        items,
        desc=description,
        unit=unit,
        disable=not show,
        mininterval=0.1 if sys.stderr.isatty() else _LOG_INTERVAL,
    )

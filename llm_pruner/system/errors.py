"""Errors a user can act on: one message that names the place, the value and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class PrunerError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(PrunerError):
    """The configuration cannot be run; carries every problem found, not the first one."""

    def __init__(self, problems: Iterable[str], source: str = "config") -> None:
        self.problems = list(problems)
        count = len(self.problems)
        head = f"{source}: {count} problem{'s' if count != 1 else ''}"
        super().__init__("\n".join([head, *(f"  - {problem}" for problem in self.problems)]))


class CheckpointError(PrunerError):
    """A model folder is missing, truncated, not finite, or of an unsupported architecture."""


class DataError(PrunerError):
    """A text source or token file is missing, malformed or too short."""


class PlanError(PrunerError):
    """The requested size cannot be reached, or a plan does not fit its model."""


def explain(item: Mapping[str, Any]) -> str:
    """An error of pydantic as one line: the place, what is wrong, the value. One about several keys has no place."""
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] != "value_error":
        message += f", not {item['input']!r}"
    return f"{dotted(item['loc'])}: {message}" if item["loc"] else message


def dotted(place: Iterable[str | int]) -> str:
    """A place in nested keys and lists.

    >>> dotted(("variants", 2, "options"))
    'variants[2].options'
    """
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint such as ``; did you mean 'Wanda'?``, or the list of known names where nothing is close."""
    known = sorted(known)
    lowered = {candidate.lower(): candidate for candidate in known}
    match = difflib.get_close_matches(name.lower(), lowered, n=1)
    if match:
        return f"; did you mean '{lowered[match[0]]}'?"
    return f"; known: {', '.join(known)}" if known else ""

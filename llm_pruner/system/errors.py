"""Errors that a user can act on, each with one message that names the place, the value and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

_LONGEST = 80
"""Largest number of characters of a value in a message."""


class PrunerError(Exception):
    """Base of all errors that this package raises on purpose."""


class ConfigError(PrunerError):
    """A configuration is invalid. The error lists every problem."""

    def __init__(self, problems: Iterable[str], source: str = "config") -> None:
        self.problems = list(problems)
        super().__init__(listed(source, self.problems))


class CheckpointError(PrunerError):
    """A model folder is missing, truncated, not finite, or of an unsupported family."""


class DataError(PrunerError):
    """A text source or token file is missing, malformed or too short."""


class PlanError(PrunerError):
    """The requested size is out of reach, or a plan does not fit its model."""


def listed(source: str, problems: Iterable[str], way_out: str = "") -> str:
    """A message with every problem of a source, one problem in each line, and the way out of all."""
    lines = [f"  - {problem}" for problem in problems]
    head = f"{source}: {len(lines)} problem{'s' if len(lines) != 1 else ''}"
    return "\n".join([f"{head}; {way_out}" if way_out else head, *lines])


Moved = Mapping[str, Callable[[Any], str]]


def problems_of(error: ValidationError, model: type[BaseModel], moved: Moved | None = None) -> list[str]:
    """Problems that pydantic found in the values of a model, one line for each: place, problem, way out.

    Args:
        moved: keys that have moved, each with a function from the key's value to the message.
    """
    return [_problem(item, model, moved or {}) for item in error.errors()]


def _problem(item: Mapping[str, Any], model: type[BaseModel], moved: Moved) -> str:
    place = dotted(item["loc"])
    if item["type"] == "extra_forbidden":
        *section, key = item["loc"]
        return (
            f"{place}: {moved[place](item['input'])}"
            if place in moved
            else f"{place}: unknown key" + nearest(str(key), _known_keys(model, section))
        )
    return f"{place}: missing" if item["type"] == "missing" else explain(item)


def _known_keys(model: Any, section: Iterable[str | int]) -> list[str]:
    """The keys of a section of a model, looking through lists and optional values."""
    for part in section:
        if isinstance(part, str) and part in _fields(model):
            model = _fields(model)[part].annotation
        while not _fields(model) and get_args(model):
            # Part of tuple[Part, ...], of Part | None and of dict[str, Part]
            model = next((inner for inner in reversed(get_args(model)) if _fields(inner) or get_args(inner)), None)
    return list(_fields(model))


def _fields(model: Any) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = getattr(model, "model_fields", {})
    return fields


def explain(item: Mapping[str, Any]) -> str:
    """A pydantic error as one line: place, problem and value. An error about several keys has no place."""
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] != "value_error":
        value = repr(item["input"])
        message += f", not {value if len(value) <= _LONGEST else f'{value[:_LONGEST]}…'}"
    return f"{dotted(item['loc'])}: {message}" if item["loc"] else message


def dotted(place: Iterable[str | int]) -> str:
    """A place in nested keys and lists, as text.

    >>> dotted(("variants", 2, "options"))
    'variants[2].options'
    """
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint such as ``; did you mean 'Wanda'?``, or the list of known names if none is close."""
    known = sorted(known)
    lowered = {candidate.lower(): candidate for candidate in known}
    match = difflib.get_close_matches(name.lower(), lowered, n=1)
    if match:
        return f"; did you mean '{lowered[match[0]]}'?"
    return f"; known: {', '.join(known)}" if known else ""

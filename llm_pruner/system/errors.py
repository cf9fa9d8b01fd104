"""Errors that a user can act on, each with one message that names the place, the value and the way out."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

_LONGEST = 80
"""Largest number of characters of a value in a message."""
_LONGEST_WORD = 255
"""Largest number of characters without a space or slash in a message: a file's name cannot be longer."""
_LISTED = 60
"""Largest number of known names that a message lists."""


class PrunerError(Exception):
    """Base of all errors that this package raises on purpose."""

    def __init__(self, message: str) -> None:
        super().__init__(_shortened(message))


class ConfigError(PrunerError):
    """A configuration is invalid. The error lists every problem."""

    def __init__(self, problems: Iterable[str], source: str = "config") -> None:
        self.problems = list(map(_shortened, problems))
        super().__init__(listed(source, self.problems))


class CheckpointError(PrunerError):
    """A model folder is missing, truncated, not finite, or of an unsupported family."""


class DataError(PrunerError):
    """A text source or token file is missing, malformed or too short."""


class PlanError(PrunerError):
    """The requested size is out of reach, or a plan does not fit its model."""


def _shortened(message: str) -> str:
    """The message without the ends of words that are too long to be names of files."""
    long = rf"([^\s/]{{{_LONGEST_WORD + 1},}}?)([:;,'\")\]]*)(?=[\s/]|$)"
    return re.sub(long, lambda word: f"{word[1][:_LONGEST]}…{word[2]}", message)


def listed(source: str, problems: Iterable[str], way_out: str = "") -> str:
    """A message with every problem of a source, one problem in each line, and the way out of all."""
    lines = [f"  - {problem}" for problem in problems]
    head = f"{source}: {len(lines)} problem{'s' if len(lines) != 1 else ''}"
    return "\n".join([f"{head}; {way_out}" if way_out else head, *lines])


def shown(value: Any, depth: int = 2) -> str:
    """A value as a configuration would write it, cut to a readable length.

    >>> shown(None), shown(True), shown("a"), shown({"a": [1, 2]})
    ('null', 'true', "'a'", "{'a': [1, 2]}")
    """
    if isinstance(value, Mapping | list | tuple):
        # a few entries and levels: aliases in YAML can make a short file immensely long
        if value and not depth:
            text = "…"
        elif isinstance(value, Mapping):
            pairs = (f"{shown(key, 0)}: {shown(item, depth - 1)}" for key, item in islice(value.items(), _LONGEST))
            text = f"{{{', '.join(pairs)}}}"
        else:
            text = f"[{', '.join(shown(item, depth - 1) for item in islice(value, _LONGEST))}]"
    elif isinstance(value, int) and value.bit_length() > 4 * _LONGEST:
        text = f"a number of about {int(value.bit_length() * math.log10(2)) + 1} digits"
    else:
        plain = {None: "null", True: "true", False: "false"} if value is None or isinstance(value, bool) else {}
        text = plain[value] if plain else repr(value[: _LONGEST + 1] if isinstance(value, str) else value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


Moved = Mapping[str, Callable[[Any], str]]


class _Found(NamedTuple):
    """One finding of pydantic, with its place as the user wrote it."""

    keys: tuple[str, ...]
    item: Mapping[str, Any]


def problems_of(error: ValidationError, model: type[BaseModel], given: Any, moved: Moved | None = None) -> list[str]:
    """Problems that pydantic found in the values of a model, one line for each place: place, value, what is allowed.

    Args:
        given: the values that the model was made from.
        moved: keys that have moved, each with a function from the key's value to the message.
    """
    found = [_Found(_keys(item, given), item) for item in error.errors()]
    places = {each.keys for each in found}
    problems: dict[tuple[str, ...], list[_Found]] = {}
    for each in found:
        # a list or an alternative is wrong because of what is wrong within it
        if not any(len(each.keys) < len(other) and other[: len(each.keys)] == each.keys for other in places):
            problems.setdefault(each.keys, []).append(each)
    return [line for same in problems.values() for line in _lines(same, model, moved or {})]


def _keys(item: Mapping[str, Any], given: Any) -> tuple[str, ...]:
    """The place of a finding in the given values, without pydantic's names for the alternatives of a type."""
    keys: list[str] = []
    place = item["loc"]
    for number, part in enumerate(place):
        written = [key for key in given if _same(key, part)] if isinstance(given, Mapping) else []
        if written:
            given = given[written[0]]
            keys.append(f".{written[0] if isinstance(written[0], str) else shown(written[0])}")
        elif isinstance(given, list | tuple) and isinstance(part, int) and part < len(given):
            given = given[part]
            keys.append(f"[{part}]")
        elif number == len(place) - 1 and item["type"] in ("missing", "extra_forbidden"):
            keys.append(f".{part}")
    return tuple(keys)


def _same(key: Any, part: str | int) -> bool:
    """Whether a part of pydantic's place is a key, which may be no text."""
    return str(key) == str(part) or (isinstance(key, bool) and key == part)


def _lines(same: list[_Found], model: type[BaseModel], moved: Moved) -> list[str]:
    """The lines about one place; alternatives of a type are one line."""
    place = "".join(same[0].keys).removeprefix(".")
    begun = f"{place}: " if place else ""
    item = same[0].item
    if item["type"] in ("extra_forbidden", "invalid_key"):
        *section, key = item["loc"]
        if place in moved:
            return [f"{begun}{moved[place](item['input'])}"]
        return [f"{begun}unknown key{nearest(key, _known_keys(model, section))}"]
    if item["type"] == "missing":
        return [f"{begun}missing"]
    messages = list(dict.fromkeys(map(_message, (each.item for each in same))))
    if len(messages) > 1 and all(message.startswith(_SHOULD_BE) for message in messages):
        messages = [_SHOULD_BE + " or ".join(message.removeprefix(_SHOULD_BE) for message in messages)]
    return [f"{begun}{message}{_value(item)}" for message in messages]


_SHOULD_BE = "Input should be "
_ALLOWED = {
    "text": ("string_type", "string_sub_type", "string_unicode"),
    "a whole number": ("int_type", "int_parsing", "int_from_float", "int_parsing_size"),
    "a number": ("float_type", "float_parsing"),
    "true or false": ("bool_type", "bool_parsing"),
    "keys and values": ("dict_type", "model_type", "model_attributes_type", "mapping_type"),
    "a list": ("list_type", "tuple_type", "set_type", "iterable_type"),
}
"""What is allowed, in the words of a configuration, by pydantic's types of findings."""
_MESSAGES = {kind: _SHOULD_BE + words for words, kinds in _ALLOWED.items() for kind in kinds}


def _message(item: Mapping[str, Any]) -> str:
    """What is allowed, without the value."""
    kind, facts = item["type"], item.get("ctx", {})
    if item["loc"] and item["loc"][-1] == "[key]" and kind in _MESSAGES:
        return f"{_SHOULD_BE}keyed by {_MESSAGES[kind].removeprefix(_SHOULD_BE)}"
    if kind in ("too_short", "too_long"):
        least, most = facts.get("min_length"), facts.get("max_length")
        return f"Input should have at {f'least {least}' if kind == 'too_short' else f'most {most}'} entries"
    if kind == "recursion_loop":
        return "Input contains itself"
    return _MESSAGES.get(kind) or str(item["msg"]).removeprefix("Value error, ")


def _value(item: Mapping[str, Any]) -> str:
    if item["type"] == "value_error":
        return ""
    close = None
    if item["type"] == "literal_error" and isinstance(item["input"], str):
        close = _close(item["input"], re.findall(r"'([^']+)'", item["ctx"]["expected"]))
    return f", not {shown(item['input'])}{f'; did you mean {close!r}?' if close else ''}"


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


def nearest(name: Any, known: Iterable[str]) -> str:
    """A hint such as ``; did you mean 'Wanda'?``, or the list of known names if none is close and they are few."""
    known = sorted(known)
    if match := _close(str(name), known):
        return f"; did you mean '{match}'?"
    return f"; known: {', '.join(known)}" if 0 < len(known) <= _LISTED else ""


def _close(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like a name, whatever the case."""
    lowered = {candidate.lower(): candidate for candidate in known}
    match = difflib.get_close_matches(name[:_LONGEST_WORD].lower(), lowered, n=1)
    return lowered[match[0]] if match else None

"""JSON of files that others made, such as config.json and safetensors headers, read without trust in its form."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, NoReturn

from llm_pruner.system.errors import CheckpointError

_LONGEST = 60
"""Largest number of characters of a value in a message."""
_LONGEST_TEXT = 300
"""Largest number of characters of an error of a library."""
_MOST = 8
"""Largest number of entries of a list in a message."""


def read_object(path: Path, way_out: str, *, large: bool = False) -> dict[str, Any]:
    """The JSON object in a file. Arguments and errors are as in ``parse_object``.

    Raises:
        CheckpointError: also if the file is missing, is a broken link or cannot be read.
    """
    return parse_object(read_bytes(path), path, way_out, large=large)


def parse_object(content: bytes, place: str | os.PathLike[str], way_out: str, *, large: bool = False) -> dict[str, Any]:
    """The JSON object in UTF-8 bytes.

    Args:
        place: file for messages.
        way_out: what the user can do about a damaged file, the end of messages.
        large: skip the search for keys that occur twice, for objects with many thousands of keys.

    Raises:
        CheckpointError: for anything but one JSON object: another encoding, other JSON, nesting too deep to read,
            numbers that are not finite or too long, text that is no Unicode, and a key that occurs twice.
    """

    def refuse(problem: str) -> NoReturn:
        raise CheckpointError(f"{place}: {problem}; {way_out}")

    def number(text: str) -> float:
        value = float(text)
        return value if math.isfinite(value) else refuse(f"the number {shown(text)} is too large")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                refuse(f"the key {shown(key)} occurs twice")
            found[key] = value
        return found

    try:
        value = json.loads(
            content.decode("utf-8"),
            parse_float=number,
            parse_constant=lambda name: refuse(f"{name} is no JSON"),
            object_pairs_hook=None if large else unique,
        )
        if not large:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        refuse("not UTF-8 text")
    except json.JSONDecodeError as error:
        refuse(f"no JSON ({error.msg}, line {error.lineno} column {error.colno})")
    except RecursionError:
        refuse("lists or objects are nested too deeply")
    except ValueError as error:  # a whole number with more digits than Python reads
        refuse(f"no JSON that can be read ({error})")
    if not isinstance(value, dict):
        refuse(f"holds {kind(value)}, not a JSON object")
    return value


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        CheckpointError: if the file is missing, is a broken link, is no regular file or cannot be read.
    """
    require_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None


def require_file(path: Path) -> None:
    """Raise CheckpointError unless ``path`` is a regular file or a link to one."""
    try:
        there, whole = os.path.lexists(path), path.is_file()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from None
    if not there:
        raise CheckpointError(f"{path}: no such file; copy or download it again")
    if not whole and path.is_symlink():
        raise CheckpointError(f"{path}: a link that leads to no file; copy or download the file again")
    if not whole:
        raise CheckpointError(f"{path}: not a regular file; copy or download it again")


def shown(value: Any) -> str:
    """A JSON value in a message: text and numbers as they are, anything long in part or by its kind.

    >>> shown("4"), shown([1, 2]), shown({"a": 1}), shown(None)
    ("'4'", '[1, 2]', 'an object', 'null')
    """
    if isinstance(value, list) and len(value) <= _MOST and all(type(each) is int for each in value):
        return str(value)
    if value is None or isinstance(value, bool | list | dict):
        return {True: "true", False: "false"}[value] if isinstance(value, bool) else kind(value)
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def shortened(text: str) -> str:
    """The text of a library's error in one line, and no more than a few of them."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]}…"


def kind(value: Any) -> str:
    """What a JSON value is, in words.

    >>> kind([1]), kind(None), kind(True), kind(2)
    ('a list', 'null', 'a truth value', 'a number')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a truth value"
    kinds: dict[type, str] = {dict: "an object", list: "a list", str: "text"}
    return kinds.get(type(value), "a number")

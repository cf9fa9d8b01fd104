"""Text files of the user's: UTF-8, or refused with file, line and column."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from llm_pruner.system.errors import DataError

_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
"""Marks at the beginning of files in other encodings; the longer ones first, because one begins with a shorter one."""


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file, without a byte order mark.

    Raises:
        DataError: if the file cannot be read, is not UTF-8, or is no text. Names the line and the column.
    """
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason})") from None
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            raise DataError(f"{path}, line 1, column 1: begins as {encoding}; save the file as UTF-8")
    if b"\0" in content:
        line, column = position(content[: content.index(b"\0")].decode("utf-8-sig", errors="replace"))
        raise DataError(f"{path}, line {line}, column {column}: holds a zero byte; save the file as text, in UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # the decoder counts from behind a mark, which is as long as the first three bytes
        start = error.start + (len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0)
        line, column = position(content[:start].decode("utf-8-sig"))
        raise DataError(
            f"{path}, line {line}, column {column}: byte 0x{content[start]:02x} is not UTF-8; save the file as UTF-8"
        ) from None


def position(before: str) -> tuple[int, int]:
    """Line and column, from 1, of what follows a text.

    >>> position("ab\\nc")
    (2, 2)
    """
    return before.count("\n") + 1, len(before) - before.rfind("\n")

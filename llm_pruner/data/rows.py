"""Rows of CSV, TSV and JSONL files, each with its line: what is malformed is refused with file, line and column."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from llm_pruner.system.errors import DataError, nearest, shown
from llm_pruner.system.text_files import read_text

SUFFIXES = (".csv", ".tsv", ".jsonl")
"""Files of rows: with a header and commas, with a header and tabs, and with a JSON object on each line."""
_LONGEST_LABEL = 200


class Row(NamedTuple):
    """One row of a file."""

    place: str
    """File and line, for messages."""
    values: Mapping[str, Any]

    def text(self, column: str) -> str:
        """The text in a column.

        Raises:
            DataError: if the column is missing or holds no text.
        """
        value = self._value(column)
        if not isinstance(value, str):
            raise DataError(f"{self.place}, column '{column}': must be text, not {shown(value)}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = value[error.start].encode("utf-16", "surrogatepass")[-2:][::-1].hex()
            raise DataError(f"{self.place}, column '{column}': holds half a character, \\u{half}") from None
        return value

    def label(self, column: str) -> str:
        """The name of the class in a column: a text without spaces around it, a whole number, true or false.

        Raises:
            DataError: if the column is missing or empty, or holds something else.
        """
        value = self._value(column)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, str | int):
            raise DataError(f"{self.place}, column '{column}': must be a text or a whole number, not {shown(value)}")
        label = self.text(column).strip() if isinstance(value, str) else shown(value) if _is_long(value) else str(value)
        if not label or label.lower() == "nan":
            raise DataError(f"{self.place}, column '{column}': has no label; leave the row out, or name its class")
        if len(label) > _LONGEST_LABEL:
            raise DataError(
                f"{self.place}, column '{column}': a label of {len(label):,} characters, at most {_LONGEST_LABEL} are "
                "read; is this the column of the labels?"
            )
        return label

    def _value(self, column: str) -> Any:
        if column not in self.values:
            raise DataError(f"{self.place}: no column '{column}'{nearest(column, self.values)}")
        return self.values[column]


def read_rows(path: str | os.PathLike[str]) -> Iterator[Row]:
    """The rows of a file, by its suffix. Blank lines are left out.

    Raises:
        DataError: if the file cannot be read or is malformed.
    """
    text = read_text(path)
    suffix = Path(path).suffix
    return _objects(path, text) if suffix == ".jsonl" else _table(path, text, "\t" if suffix == ".tsv" else ",")


def _is_long(value: int) -> bool:
    return value.bit_length() > 8 * _LONGEST_LABEL


def _table(path: str | os.PathLike[str], text: str, delimiter: str) -> Iterator[Row]:
    header: list[str] | None = None
    for line, fields in _fields(path, text, delimiter):
        place = f"{path}, line {line}"
        if header is None:
            header = fields
            if twice := sorted({name for name in header if header.count(name) > 1}):
                raise DataError(f"{place}: column '{twice[0]}' stands twice; rename one of them")
        elif len(fields) != len(header):
            raise DataError(
                f"{place}: {len(fields)} fields, but the header has {len(header)}; put a text with "
                f"{'tabs' if delimiter == chr(9) else 'commas'} or line breaks in quotes"
            )
        else:
            yield Row(place, dict(zip(header, fields, strict=True)))


def _fields(path: str | os.PathLike[str], text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Fields of each row, with the number of its first line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            told = str(error)
            if "field limit" in told:
                told = f"a field of more than {csv.field_size_limit():,} characters; is a quote left open?"
            raise DataError(f"{path}, line {line}: {told}; quotes within quotes are doubled") from None
        if fields is None:
            return
        if fields:
            yield line, fields


def _objects(path: str | os.PathLike[str], text: str) -> Iterator[Row]:
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            value = json.loads(line, object_pairs_hook=_unique, parse_constant=_refuse)
        except json.JSONDecodeError as error:
            raise DataError(f"{place}, column {error.colno}: not a JSON object ({error.msg})") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}: not a JSON object ({error})") from None
        if not isinstance(value, dict):
            raise DataError(f"{place}: not a JSON object, but {shown(value)}")
        yield Row(place, value)


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {shown(key)} stands twice")
        found[key] = value
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")

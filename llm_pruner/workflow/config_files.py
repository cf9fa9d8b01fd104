"""Configuration files, read strictly: what Snakemake's loader passes over in silence is told with file and line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path

import yaml

from llm_pruner.system.errors import ConfigError, DataError, shown
from llm_pruner.system.text_files import position, read_text

_STANDARD = "tag:yaml.org,2002:"
_TAGS = {"str", "int", "float", "bool", "null", "seq", "map", "merge"}
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_TEMPLATE = "__use_yte__"
_ENTRIES = 100_000
"""Largest number of keys and values of a configuration. Aliases can make a short file immensely long."""
_DIGITS = 100

Places = dict[str, str]
"""File and line of each key, by its path as messages write it: ``model.builtin.steps``, ``variants[2]``."""


def check_files(paths: Iterable[str | Path]) -> Places:
    """Check the form of configuration files, of which the later ones replace keys of the earlier ones.

    Returns:
        Where each key stands.

    Raises:
        ConfigError: for a file that is not UTF-8, is neither YAML nor JSON, is empty or a list, or has a key twice;
            with every such place.
    """
    places: Places = {}
    for path in paths:
        places |= _check_file(path)
    return places


def located(problems: Iterable[str], places: Mapping[str, str]) -> list[str]:
    """Problems of a configuration, each followed by file and line of its key, where the key stands in a file.

    >>> located(["model.dtype: wrong", "seed: wrong"], {"model.dtype": "my.yaml, line 2"})
    ['model.dtype: wrong (my.yaml, line 2)', 'seed: wrong']
    """
    found = []
    for problem in problems:
        keys = re.findall(r"\.?[^.\[\]]+|\[\d+\]", problem.partition(": ")[0])
        place = next((places[path] for path in reversed(list(accumulate(keys))) if path in places), None)
        found.append(f"{problem} ({place})" if place else problem)
    return found


def _check_file(path: str | Path) -> Places:
    try:
        text = read_text(path)
    except DataError as error:
        raise ConfigError([str(error)], str(path)) from None
    if _is_json(text):
        text = text.replace("\t", " ")  # allowed in JSON; JSON is YAML otherwise
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        told = ", ".join(filter(None, (error.context, error.problem)))
        raise ConfigError([f"{_at(path, error.problem_mark)}: {told}"], str(path)) from None
    except yaml.reader.ReaderError as error:
        line, column = position(text[: error.position])
        told = f"character {error.character!r} is not allowed in YAML"
        raise ConfigError([f"{path}, line {line}, column {column}: {told}"], str(path)) from None
    except RecursionError:
        raise ConfigError(["lists and keys are nested too deeply"], str(path)) from None
    if root is None:
        raise ConfigError(["is empty; at least 'variants' is required"], str(path))
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError([f"{_at(path, root.start_mark)}: must be keys and values, not {_kind(root)}"], str(path))
    if any(key.value == _TEMPLATE for key, _ in root.value):
        return {}  # a template, whose keys may be conditions
    file = _File(path)
    file.visit(root, "")
    if file.problems:
        raise ConfigError(file.problems, str(path))
    return file.places


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


class _File:
    """What a walk through the nodes of a file finds."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.problems: list[str] = []
        self.places: Places = {}
        self._sizes: dict[int, int] = {}
        self._above: set[int] = set()

    def visit(self, node: yaml.Node, place: str) -> int:
        """Check a node and what it holds, and return how many nodes it stands for, those of aliases included."""
        if id(node) in self._above:
            self._tell(node, f"{place}: contains itself")
            return 1
        self.places.setdefault(place, f"{self.path}, line {node.start_mark.line + 1}")
        if id(node) in self._sizes:
            return self._sizes[id(node)]
        self._above.add(id(node))
        size = 1 + sum(self.visit(child, inner) for child, inner in self._children(node, place))
        self._above.remove(id(node))
        self._sizes[id(node)] = size
        if size > _ENTRIES and not self.problems:
            self._tell(
                node, f"{place or 'the file'}: stands for {size:,} keys and values, at most {_ENTRIES:,} are read"
            )
        return size

    def _children(self, node: yaml.Node, place: str) -> Iterator[tuple[yaml.Node, str]]:
        if isinstance(node, yaml.MappingNode):
            yield from self._entries(node, place)
        elif isinstance(node, yaml.SequenceNode):
            yield from ((child, f"{place}[{index}]") for index, child in enumerate(node.value))
        if problem := _unreadable(node):
            self._tell(node, f"{place}: {problem}")

    def _entries(self, node: yaml.MappingNode, place: str) -> Iterator[tuple[yaml.Node, str]]:
        first: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._tell(key, f"{place or 'the file'}: a key must be text, not {_kind(key)}")
                continue
            inner = f"{place}.{key.value}" if place else key.value
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in first:
                self._tell(key, f"{inner}: stands here again, first in line {first[name]}; leave one of them out")
            first.setdefault(name, line)
            self.places[inner] = f"{self.path}, line {line}"
            yield value, inner

    def _tell(self, node: yaml.Node, problem: str) -> None:
        self.problems.append(f"{_at(self.path, node.start_mark)}: {problem}")


def _unreadable(node: yaml.Node) -> str | None:
    """What is wrong with a value that YAML reads as something else than it looks like, or not at all."""
    tag = node.tag.removeprefix(_STANDARD)
    if tag == "timestamp":
        return f"{shown(node.value)} is read as a date; put it in quotes"
    if tag not in _TAGS:
        return f"{shown(node.tag)} is no type of a configuration; leave it out"
    if tag in ("int", "float"):
        if len(node.value) > _DIGITS:
            return f"a number of {len(node.value):,} digits"
        if _SEXAGESIMAL.fullmatch(node.value):
            return f"{node.value} is read as a number to the base 60; put it in quotes"
    return None


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return "keys and values" if isinstance(node, yaml.MappingNode) else shown(node.value)


def _at(path: str | Path, mark: yaml.Mark | None) -> str:
    return f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)

"""English prose that every CPython ships with: a text corpus that needs no download.

Sources: docstrings and comments of the standard library, the language reference in ``pydoc_data.topics`` and
the docstrings of modules written in C. Documents are split by a hash of their name, so a split stays the same
when other documents come or go.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import sysconfig
import tokenize
import types
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llm_pruner.system.errors import DataError, nearest


@dataclass(frozen=True)
class Document:
    """One source of prose; paragraphs are separated by a blank line."""

    name: str
    text: str

    @property
    def paragraphs(self) -> list[str]:
        return self.text.split("\n\n")


SPLITS = ("train", "calibration", "validation", "test")

# Upper ends of the held-out slices of the hash range. The slices are wider than their shares of the text,
# because all large documents go to train.
_HELD_OUT = (("test", 0.10), ("calibration", 0.19), ("validation", 0.23))
_LARGE = 30_000  # characters
_NGRAM = 8  # words

_SKIPPED_FOLDERS = frozenset(
    ("site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "pydoc_data", "__pycache__")
)
_EXTENSION_MODULES = tuple(
    """
    _asyncio _bisect _blake2 _bz2 _contextvars _csv _ctypes _curses _datetime _decimal _elementtree _hashlib
    _heapq _json _lsprof _lzma _md5 _multiprocessing _pickle _posixsubprocess _queue _random _sha1 _sha256 _sha3
    _sha512 _socket _sqlite3 _ssl _statistics _struct _uuid _zoneinfo array binascii cmath fcntl grp math mmap
    pyexpat resource select syslog termios unicodedata zlib
    """.split()  # noqa: SIM905  a name a line would be fifty lines
)
_DOCUMENTED = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)

_LICENCE = re.compile(
    r"copyright|licen[cs]|all rights reserved|warrant(y|ies)|redistribut|permission (to|is)|liab(le|ility)"
    r"|\(c\) \d",
    re.IGNORECASE,
)
_PLAIN_WORD = re.compile(r"[\"'(`*]*[A-Za-z][A-Za-z'’-]*[\"')`*]*[.,;:!?]*[\"')]*")
_BULLET = re.compile(r"(?:[-*•]|\(?\d{1,2}[.)]|\(?[a-z]\))\s")
_RULE = re.compile(r"[\W_]*")
_COMMENT = re.compile(r"\s*#+:? ?(.*)")


def load_split(split: str) -> list[str]:
    """Texts of one split, in a stable order.

    Raises:
        DataError: if ``split`` is not one of `SPLITS`.
    """
    if split not in SPLITS:
        raise DataError(f"no split '{split}' in the built-in corpus{nearest(split, SPLITS)}")
    return [document.text for document in load_corpus()[split]]


def load_corpus() -> dict[str, list[Document]]:
    """All documents by split, sorted by name; no paragraph occurs twice."""
    splits: dict[str, list[Document]] = {split: [] for split in SPLITS}
    for document in _without_repeats(_documents()):
        splits[_split_of(document)].append(document)
    held_out = [split for split in SPLITS if split != "train"]
    known = _shared_ngrams(splits["train"], (document for split in held_out for document in splits[split]))
    return splits | {split: _without_known(splits[split], known) for split in held_out}


def _documents() -> list[Document]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escapes in other people's sources
        sources = (*_library_texts(), *_topic_texts(), *_c_module_texts())
    documents = (Document(name, "\n\n".join(_prose(texts))) for name, texts in sources)
    return sorted((document for document in documents if document.text), key=lambda document: document.name)


def _library_texts() -> Iterator[tuple[str, list[str]]]:
    root = Path(sysconfig.get_path("stdlib"))
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = set(subfolders) - _SKIPPED_FOLDERS
        for file in files:
            if file.endswith(".py"):
                path = Path(folder, file)
                with tokenize.open(path) as handle:  # honours the file's declared encoding
                    source = handle.read()
                yield path.relative_to(root).as_posix(), [*_docstrings(source), *_comments(source)]


def _topic_texts() -> Iterator[tuple[str, list[str]]]:
    topics = importlib.import_module("pydoc_data.topics").topics
    yield from ((f"topics/{name}", [text]) for name, text in topics.items())


def _c_module_texts() -> Iterator[tuple[str, list[str]]]:
    for name in sorted({*sys.builtin_module_names, *_EXTENSION_MODULES}):
        if importlib.util.find_spec(name) is not None:
            yield f"c/{name}", _member_docstrings(importlib.import_module(name))


def _docstrings(source: str) -> Iterator[str]:
    """Those of a module and of all it defines, level by level."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    # statements alone, a fourth of a module's nodes or less: nothing within an expression has a docstring
    pending: deque[ast.AST] = deque([ast.parse(source)])
    while pending:
        node = pending.popleft()
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield text
        for part in ("body", "handlers", "orelse", "finalbody", "cases"):
            pending.extend(getattr(node, part, ()))


def _member_docstrings(module: types.ModuleType) -> list[str]:
    texts = [module.__doc__]
    for _, member in sorted(vars(module).items()):
        if isinstance(member, types.BuiltinFunctionType):
            texts.append(member.__doc__)
        elif isinstance(member, type):
            texts.append(member.__doc__)
            attributes = [value for _, value in sorted(vars(member).items())]
            texts.extend(value.__doc__ for value in attributes if isinstance(value, _DOCUMENTED))
    return [inspect.cleandoc(text) for text in texts if isinstance(text, str)]


def _comments(source: str) -> Iterator[str]:
    """Blocks of whole-line comments, except commented-out code."""
    block: list[str] = []
    for line in (*source.splitlines(), ""):
        if match := _COMMENT.fullmatch(line):
            block.append(match[1])
        elif block:
            text = inspect.cleandoc("\n".join(block))
            if not _is_code(text):
                yield text
            block = []


def _is_code(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True


def _prose(texts: Iterable[str]) -> list[str]:
    return [
        paragraph
        for text in texts
        for paragraph in _reflow(text)
        if _is_prose(paragraph) and not _LICENCE.search(paragraph)
    ]


def _reflow(text: str) -> Iterator[str]:
    """Undo hard wrapping: one line per paragraph or list item."""
    lines: list[str] = []
    indent = 0
    for line in (*text.expandtabs().splitlines(), ""):
        words = line.strip()
        blank = _RULE.fullmatch(words) is not None
        margin = len(line) - len(line.lstrip())
        starts = (
            blank
            or _BULLET.match(words)
            or margin < indent
            or (margin > indent and lines[-1:] and lines[-1][-1] == ":")
        )
        if starts and lines:
            yield " ".join(" ".join(lines).split())
            lines = []
        if not blank:
            lines.append(words)
            indent = margin


def _is_prose(paragraph: str) -> bool:
    words = paragraph.split()
    plain = sum(_PLAIN_WORD.fullmatch(word) is not None for word in words)
    return len(words) >= 4 and plain >= 0.6 * len(words) and not paragraph.startswith(">>>")


def _without_repeats(documents: Iterable[Document]) -> Iterator[Document]:
    seen: set[str] = set()
    for document in documents:
        kept = []
        for paragraph in document.paragraphs:
            key = " ".join(_words(paragraph))
            if key not in seen:
                seen.add(key)
                kept.append(paragraph)
        if kept:
            yield Document(document.name, "\n\n".join(kept))


def _split_of(document: Document) -> str:
    if len(document.text) > _LARGE:
        return "train"
    digest = hashlib.sha256(document.name.encode()).digest()
    position = int.from_bytes(digest[:4], "big") / 2**32
    return next((split for split, end in _HELD_OUT if position < end), "train")


def _shared_ngrams(train: Iterable[Document], held_out: Iterable[Document]) -> set[str]:
    """N-grams of the held-out documents that also occur in train."""
    candidates = {ngram for document in held_out for text in document.paragraphs for ngram in _ngrams(text)}
    return {
        ngram for document in train for text in document.paragraphs for ngram in _ngrams(text) if ngram in candidates
    }


def _without_known(documents: Iterable[Document], known: set[str]) -> list[Document]:
    """Drop the paragraphs whose n-grams are mostly known, and documents left empty."""
    trimmed = []
    for document in documents:
        kept = []
        for paragraph in document.paragraphs:
            ngrams = _ngrams(paragraph)
            if 2 * sum(ngram in known for ngram in ngrams) <= len(ngrams):
                kept.append(paragraph)
        if kept:
            trimmed.append(Document(document.name, "\n\n".join(kept)))
    return trimmed


def _ngrams(paragraph: str) -> list[str]:
    words = _words(paragraph)
    return [" ".join(words[start : start + _NGRAM]) for start in range(len(words) - _NGRAM + 1)]


def _words(paragraph: str) -> list[str]:
    return re.findall(r"\w+", paragraph.lower())

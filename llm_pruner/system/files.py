"""Whole or not at all: every file and folder appears under its name only once it is complete."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llm_pruner.system.errors import DataError


@contextmanager
def staged_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it is moved into place when the block succeeds."""
    target = Path(path)
    handle, name = tempfile.mkstemp(prefix=_clear_prefix(target), suffix=target.suffix, dir=target.parent)
    os.close(handle)
    staged = Path(name)
    try:
        yield staged
        staged.chmod(0o644)
        staged.replace(target)
    finally:
        staged.unlink(missing_ok=True)


@contextmanager
def staged_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; it replaces ``path`` when the block succeeds."""
    target = Path(path)
    staged = Path(tempfile.mkdtemp(prefix=_clear_prefix(target), dir=target.parent))
    try:
        yield staged
        staged.chmod(0o755)
        if target.is_symlink():
            target.unlink()
        elif target.exists():
            shutil.rmtree(target)
        staged.replace(target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _clear_prefix(target: Path) -> str:
    """How staged names of ``target`` begin; what killed writers left under such names is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.staged-"
    for leftover in target.parent.iterdir():
        if leftover.name.startswith(prefix):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    return prefix


def write_text(path: str | os.PathLike[str], text: str) -> None:
    with staged_file(path) as staged:
        staged.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON. NaN and infinity are refused: they are not JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        DataError: if the file is missing or is not JSON, naming the file and the place.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid JSON ({error}); delete it and run again to make it anew") from None

"""Whole or not at all: every file and folder appears under its name only once it is complete."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llm_pruner.system.errors import DataError, PrunerError

MARKER = ".llm-pruner"
"""An empty file in every folder that this tool made: only such a folder is ever replaced."""

_REPLACED = ".replaced"
_AT_CWD, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


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
    """Yield a temporary folder beside ``path``; it replaces ``path`` when the block succeeds.

    One of the two, old or new, is there at every moment or put back by the next writer. A link is replaced, not what
    it leads to.

    Raises:
        PrunerError: before the block runs, for a ``path`` that this tool did not make.
    """
    target = Path(path)
    refuse_foreign_folder(target)
    staged = Path(tempfile.mkdtemp(prefix=_clear_prefix(target), dir=target.parent))
    try:
        yield staged
        staged.chmod(0o755)
        if not (staged / MARKER).exists():
            (staged / MARKER).touch()
        _swap(staged, target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


@contextmanager
def scratch_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` for what is needed on the way there.

    It goes with the block; what a killed block left goes with the next.
    """
    target = Path(path)
    scratch = Path(tempfile.mkdtemp(prefix=_clear_prefix(target, "scratch"), dir=target.parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def refuse_foreign_folder(path: Path) -> None:
    """Raise PrunerError if ``path`` is a file, or a folder with anything in it that this tool did not make."""
    if path.is_symlink() or not path.exists():
        return
    if not path.is_dir():
        raise PrunerError(f"{path}: a file, and a folder is to be written there; choose another output")
    if not (path / MARKER).exists() and any(path.iterdir()):
        raise PrunerError(
            f"{path}: not made by this tool (no {MARKER} in it), so not replaced; choose another output or delete it"
        )


def refuse_foreign_record(path: Path) -> None:
    """Raise PrunerError if ``path`` is there, and neither a JSON record of this tool, which says what ``run`` made it,
    nor a token file of it, which says where its tokens are from."""
    if path.exists() and not (path.is_file() and _made_here(path)):
        raise PrunerError(f"{path}: not made by this tool, so not replaced; choose another output or delete it")


def _made_here(path: Path) -> bool:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open  # not in every environment that writes files

        try:
            with safe_open(path, framework="numpy") as handle:
                return "facts" in (handle.metadata() or {})
        except SafetensorError:
            return False
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(held, dict) and "run" in held


def replaced_by(
    *,
    folders: Iterable[Path] = (),
    records: Iterable[Path] = (),
    named: Iterable[Path] = (),
    files: Iterable[Path] = (),
    inputs: Iterable[Path] = (),
    force: bool = False,
) -> list[Path]:
    """The files that writing these outputs replaces. Nothing is touched.

    Args:
        folders: made as a whole, such as a model; replaced with ``force``, and only if this tool made them.
        records: JSON records and token files; replaced without being asked, but only if this tool made them.
        named: records whose names the user chose: as ``records``, and with ``force`` whatever file is there.
        files: anything that does not say who made it; replaced with ``force``.
        inputs: what the outputs are made from.

    Raises:
        PrunerError: for what may not be replaced, and for an output that is, contains or lies in an input.
    """
    folders, records, files = list(folders), list(records), list(files)
    (files if force else records).extend(named)
    refuse_inputs([*folders, *records, *files], inputs)
    for folder in folders:
        refuse_foreign_folder(folder)
    for record in records:
        refuse_foreign_record(record)
    for file in files:
        if file.is_dir():
            raise PrunerError(f"{file}: a folder, and a file is to be written there; choose another output")
    held = [folder for folder in folders if folder.is_symlink() or (folder.is_dir() and any(folder.iterdir()))]
    taken = [*held, *(file for file in files if os.path.lexists(file))]
    if taken and not force:
        raise PrunerError(f"{taken[0]}: there already; choose another --output or replace it with --force")
    inside = [
        [folder] if folder.is_symlink() else sorted(path for path in folder.rglob("*") if path.name != MARKER)
        for folder in held
    ]
    return [
        *(path for found in inside for path in found if path.is_symlink() or path.is_file()),
        *(path for path in [*records, *files] if os.path.lexists(path)),
    ]


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise PrunerError if an output is, contains or lies in an input; links are followed."""
    sources = [source.resolve() for source in inputs]
    for output in outputs:
        # a link in the last place is itself replaced, and what it leads to stays
        for place in {output.resolve(), output.parent.resolve() / output.name}:
            for source in sources:
                if place.is_relative_to(source) or source.is_relative_to(place):
                    raise PrunerError(f"{output}: would overwrite the input {source}; choose another output")


def _swap(staged: Path, target: Path) -> None:
    """Put a staged folder in its place; the old one, if any, is deleted last."""
    if not target.is_symlink() and not target.exists():
        staged.rename(target)
        return
    old = target.with_name(f".{target.name}{_REPLACED}")
    if _exchange(staged, target):
        staged.rename(old)
    else:
        # killed between these two, the next writer puts the old one back
        target.rename(old)
        staged.rename(target)
    _delete(old)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names at once; False where system or file system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if rename is None:
        return False
    swapped: int = rename(_AT_CWD, os.fsencode(one), _AT_CWD, os.fsencode(other), _EXCHANGE)
    return swapped == 0


def _delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _clear_prefix(target: Path, kind: str = "staged") -> str:
    """How temporary names of ``target`` begin; what killed writers left under such names is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    old = target.with_name(f".{target.name}{_REPLACED}")
    if os.path.lexists(old):
        _delete(old) if os.path.lexists(target) else old.rename(target)
    prefix = f".{target.name}.{kind}-"
    for leftover in target.parent.iterdir():
        if leftover.name.startswith(prefix):
            _delete(leftover)
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

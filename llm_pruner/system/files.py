"""Atomic files and folders, which appear under their names only once they are complete."""

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
"""An empty file in every folder that this tool makes. Only such folders are ever replaced."""

_REPLACED = ".replaced"
_AT_CWD, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


@contextmanager
def staged_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which is moved into place when the block succeeds."""
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
    """Yield a temporary folder beside ``path``, which replaces ``path`` when the block succeeds.

    The old or the new folder exists at every moment, or the next writer restores the old one. A link is replaced
    itself, and its target stays.

    Raises:
        PrunerError: before the block runs, if ``path`` exists and this tool did not make it.
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
    """Yield a temporary folder beside ``path`` for intermediate files.

    The folder is deleted when the block ends. The next call deletes the folder of a killed block.
    """
    target = Path(path)
    scratch = Path(tempfile.mkdtemp(prefix=_clear_prefix(target, "scratch"), dir=target.parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def refuse_foreign_folder(path: Path) -> None:
    """Raise PrunerError if ``path`` is a file, or a non-empty folder that this tool did not make."""
    if path.is_symlink() or not path.exists():
        return
    if not path.is_dir():
        raise PrunerError(f"{path}: is a file, but the output is a folder; choose another output")
    if not (path / MARKER).exists() and any(path.iterdir()):
        raise PrunerError(
            f"{path}: not made by this tool (it has no {MARKER}), so not replaced; choose another output or delete it"
        )


def refuse_foreign_record(path: Path) -> None:
    """Raise PrunerError if ``path`` exists, and is neither a JSON record nor a token file of this tool.

    A record of this tool has the key ``run``, and a token file has facts about the origin of its tokens.
    """
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
    """The files that writing these outputs would replace. Changes no file.

    Args:
        folders: folders made as a whole, such as models; replaced only with ``force``, and only if this tool made them.
        records: JSON records and token files; replaced without ``force``, but only if this tool made them.
        named: records with names that the user chose; replaced as ``records``, and with ``force`` in any case.
        files: files that do not tell their origin; replaced only with ``force``.
        inputs: files and folders that the outputs are made from.

    Raises:
        PrunerError: for an output that may not be replaced, or that is, contains or lies in an input.
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
            raise PrunerError(f"{file}: is a folder, but the output is a file; choose another output")
    held = [folder for folder in folders if folder.is_symlink() or (folder.is_dir() and any(folder.iterdir()))]
    taken = [*held, *(file for file in files if os.path.lexists(file))]
    if taken and not force:
        raise PrunerError(f"{taken[0]}: exists already; choose another --output or replace it with --force")
    inside = [
        [folder] if folder.is_symlink() else sorted(path for path in folder.rglob("*") if path.name != MARKER)
        for folder in held
    ]
    return [
        *(path for found in inside for path in found if path.is_symlink() or path.is_file()),
        *(path for path in [*records, *files] if os.path.lexists(path)),
    ]


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise PrunerError if an output is, contains or lies in an input. Links are followed."""
    sources = [source.resolve() for source in inputs]
    for output in outputs:
        # if the output itself is a link, the link is replaced and its target stays
        for place in {output.resolve(), output.parent.resolve() / output.name}:
            for source in sources:
                if place.is_relative_to(source) or source.is_relative_to(place):
                    raise PrunerError(f"{output}: would overwrite the input {source}; choose another output")


def _swap(staged: Path, target: Path) -> None:
    """Move a staged folder into its place, and delete an old folder last."""
    if not target.is_symlink() and not target.exists():
        staged.rename(target)
        return
    old = target.with_name(f".{target.name}{_REPLACED}")
    if _exchange(staged, target):
        staged.rename(old)
    else:
        # if killed between these two lines, the next writer restores the old folder
        target.rename(old)
        staged.rename(target)
    _delete(old)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names at once; False if the system or the file system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if rename is None:
        return False
    swapped: int = rename(_AT_CWD, os.fsencode(one), _AT_CWD, os.fsencode(other), _EXCHANGE)
    return swapped == 0


def _delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _clear_prefix(target: Path, kind: str = "staged") -> str:
    """The prefix of temporary names of ``target``. Removes files that killed writers left under such names."""
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
    """Write ``value`` as indented JSON. Refuses NaN and infinity, which are not JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike[str], *, way_out: str = "delete it and run again to make it anew") -> Any:
    """Read a JSON file.

    Args:
        way_out: what to do about a file that is not JSON.

    Raises:
        DataError: if the file is missing or is not JSON. Names the file and the place.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error}); {way_out}") from None

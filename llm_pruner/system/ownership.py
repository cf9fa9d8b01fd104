"""What this tool made, and may therefore replace: a folder by its marker, a file by its contents.

The marker of a folder lists all that was written into it. A folder to which somebody added a file, or in which somebody
changed one, belongs to that person as well, so it is not replaced; nor is a folder into which a marker was copied.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from llm_pruner.system.errors import PrunerError

MARKER = ".llm-pruner"
"""The file that lists the contents of a folder that this tool made."""
MADE_BY = "made by llm-pruner"
"""A comment in every text and figure of this tool. A file without it is never replaced."""
State = Literal["staged", "growing", "whole"]
"""Of a folder: not yet under its name; gets one file after the other; complete, with a list of its contents."""

_WHOLE_BYTES = 1 << 24
"""Size of files up to which all bytes count; of larger ones, as many bytes spread over the file."""
_PARTS = 256
_ENDS = 4096
"""Bytes at either end of a file that are searched for ``MADE_BY``."""
_LONGEST_HEADER = 1 << 28
_ASIDE = {".snakemake_timestamp"}
"""Files that Snakemake adds to folders, and nobody misses."""
_TABLE = b"variant,method,mechanism,structure,asked,reached,"
"""The beginning of the table as CSV, a format without comments."""
_RECORDS = tuple(
    map(
        frozenset,
        (
            ("base", "kept_layers", "layers"),
            ("base", "model", "num_layers", "totals", "parts", "layers"),
            ("name", "model_type", "hidden_size", "num_layers", "totals", "layers"),
            ("name", "tensors"),
            ("timestamp", "total_models", "missing", "statistics", "models"),
            ("layers", "parameters", "non-zero parameters", "megabytes on disk", "perplexity"),
            ("tasks", "mean", "samples"),
            ("layer_pruning_rates", "layer_importance", "statistics"),
            ("search", "trials"),
        ),
    )
)
"""Keys of the JSON files that hold no description of a job: plans, analyses and their summaries, answers, rates."""
_TELLING = 5
_RUN = {"started", "seconds", "versions"}
_TENSORS = ({"facts"}, {"text"}, {"identity", "record"})
"""Keys in the headers of tokens, predictions and repaired blocks."""


def mark(folder: Path, state: State, files: Mapping[str, str] | None = None) -> None:
    """Write the marker of a folder."""
    held: dict[str, Any] = {"": MADE_BY, "state": state}
    if files is not None:
        held["files"] = dict(files)
    text = json.dumps(held, indent=1, ensure_ascii=False) + "\n"
    # written over in one go, because the writer has locked the file, and so that it is never half a marker
    handle = os.open(folder / MARKER, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.truncate(handle, os.write(handle, text.encode()))
    finally:
        os.close(handle)


def seal(folder: Path) -> None:
    """Mark a folder as whole, with a list of its contents."""
    mark(folder, "whole", {path.relative_to(folder).as_posix(): _print_of(path) for path in _inside(folder)})


def state_of(folder: Path) -> State | None:
    """The state of a folder that this tool made; None for any other folder."""
    held = _read_marker(folder)
    return held["state"] if held else None


def made_whole(folder: Path) -> bool:
    """Whether the folder is a whole one of this tool, with nothing added and nothing changed."""
    return state_of(folder) == "whole" and first_foreign(folder) is None


def first_foreign(folder: Path) -> Path | None:
    """The first file or folder inside ``folder`` that this tool did not make or that was changed since, if any."""
    held = _read_marker(folder)
    if held and held["state"] == "growing":
        own = [path for path in sorted(folder.iterdir()) if path.name != MARKER]
        return next((path for path in own if not (made_here(path) or state_of(path))), None)
    listed = held.get("files", {}) if held else {}
    names = ((path, path.relative_to(folder).as_posix()) for path in _inside(folder))
    return next((path for path, name in names if listed.get(name) != _print_of(path)), None)


def made_here(file: Path) -> bool:
    """Whether the contents of a file show that this tool wrote it. Links are not followed."""
    if file.is_symlink() or not file.is_file():
        return False
    if file.suffix == ".safetensors":
        return any(keys <= _tensor_metadata(file).keys() for keys in _TENSORS)
    if file.suffix == ".json":
        return _is_record(file)
    if file.suffix == ".xlsx":
        return _is_workbook(file)
    with file.open("rb") as handle:
        begin = handle.read(_ENDS)
        handle.seek(max(0, file.stat().st_size - _ENDS))
        end = handle.read()
    return begin.startswith(_TABLE) or MADE_BY.encode() in begin or MADE_BY.encode() in end


def refuse_foreign(path: Path, *, folder: bool) -> None:
    """Raise PrunerError if something is at ``path`` that this tool did not make, or that is no plain file or folder.

    An empty folder may be replaced by a folder.
    """
    if not os.path.lexists(path):
        return
    if path.is_symlink():
        raise PrunerError(f"{path}: is a link, and this tool makes none; name the place it leads to, or delete it")
    kind = path.stat().st_mode
    if folder:
        if not stat.S_ISDIR(kind):
            raise PrunerError(f"{path}: is a file, but the output is a folder; choose another output")
        _refuse_foreign_folder(path)
    elif stat.S_ISDIR(kind):
        raise PrunerError(f"{path}: is a folder, but the output is a file; choose another output")
    elif not stat.S_ISREG(kind):
        raise PrunerError(f"{path}: is no ordinary file; choose another output")
    elif not made_here(path):
        raise PrunerError(
            f"{path}: not made by this tool, so not replaced, with --force or without; choose another output or "
            "delete it"
        )
    protected = next((place for place in (path, *(_inside(path) if folder else ())) if _is_protected(place)), None)
    if protected:
        raise PrunerError(f"{protected}: is write-protected; choose another output, or allow it with chmod u+w")


def _refuse_foreign_folder(path: Path) -> None:
    foreign = first_foreign(path)
    if foreign is None:
        return
    if state_of(path) is None:
        raise PrunerError(
            f"{path}: not made by this tool (it has no {MARKER} that lists its files), so not replaced, with --force "
            "or without; choose another output or delete it"
        )
    raise PrunerError(
        f"{foreign}: added or changed since this tool made {path}, so that is not replaced, with --force or without; "
        "choose another output, or move the file away"
    )


def _is_protected(path: Path) -> bool:
    return not path.is_symlink() and not path.stat().st_mode & stat.S_IWUSR


def _read_marker(folder: Path) -> dict[str, Any] | None:
    marker = folder / MARKER
    try:
        held = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(held, dict) and held.get("state") in ("staged", "growing", "whole")
    return held if whole and isinstance(held.get("files", {}), dict) else None


def _inside(folder: Path) -> Iterator[Path]:
    """All files and folders within ``folder`` except its marker, in order."""
    for path in sorted(folder.iterdir()):
        if path.name == MARKER or path.name in _ASIDE:
            continue
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _below(path)


def _below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _below(path)


def _print_of(path: Path) -> str:
    """A file's kind, size and digest; a link's target."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return f"link {path.readlink()}"
    if stat.S_ISDIR(found.st_mode):
        return "folder"
    if not stat.S_ISREG(found.st_mode):
        return "other"
    size = found.st_size
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        if size <= _WHOLE_BYTES:
            digest.update(handle.read())
        else:
            part = _WHOLE_BYTES // _PARTS
            for number in range(_PARTS):
                handle.seek((size - part) * number // (_PARTS - 1))
                digest.update(handle.read(part))
    return f"{size} {digest.hexdigest()}"


def _tensor_metadata(file: Path) -> Mapping[str, Any]:
    """The metadata in a safetensors header; empty without any."""
    with file.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if length > min(file.stat().st_size, _LONGEST_HEADER):
            return {}
        try:
            header = json.loads(handle.read(length))
        except (ValueError, RecursionError):
            return {}
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    return metadata if isinstance(metadata, dict) else {}


def _is_record(file: Path) -> bool:
    try:
        held = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return False
    if not isinstance(held, dict):
        return False
    run = held.get("run")
    if isinstance(run, dict) and run.keys() >= _RUN:
        return True
    # a few names alone are in many files
    return any(held.keys() >= keys if len(keys) >= _TELLING else held.keys() == keys for keys in _RECORDS)


def _is_workbook(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return MADE_BY.encode() in archive.read("docProps/core.xml")
    except (zipfile.BadZipFile, KeyError):
        return False

"""Atomic files and folders: the one way in which outputs come into being.

An output appears under its name only once it is complete. Until then it lies beside its place, in a hidden folder that
is locked for as long as its writer lives. An old output is replaced only if this tool made it, and in one step where
the system can exchange two names. Where it cannot, a writer that is killed on the way leaves the new output complete
under a hidden name, and the next writer puts it in place.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from llm_pruner.system.errors import DataError
from llm_pruner.system.ownership import MADE_BY, MARKER, first_foreign, mark, refuse_foreign, seal, state_of
from llm_pruner.system.places import place_of, refuse_fixed, refuse_inputs

_AT_CWD, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
_LONGEST = 200
"""Bytes of a name that leave room for more in a hidden name."""
_KINDS = ("new", "old", "staged", "scratch")
"""Of hidden folders, in the order in which those that are left are dealt with."""
_ROOM = re.compile(r"^\..+\.(staged|scratch)-[0-9a-f]{12}$")


@contextmanager
def staged_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which is moved into place when the block succeeds.

    Raises:
        PrunerError: before the block runs, if something is at ``path`` that this tool did not make.
    """
    target = Path(path)
    if _in_the_making(target.parent):
        yield target  # appears with its folder
        return
    refuse_foreign(target, folder=False)
    place = place_of(target)
    with _room(place, "staged") as room:
        staged = room / place.name
        yield staged
        refuse_foreign(target, folder=False)
        staged.replace(place)


@contextmanager
def staged_directory(path: str | os.PathLike[str], *, inputs: Iterable[Path] = ()) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``, which replaces ``path`` when the block succeeds.

    The old or the new folder is there at every moment, if need be after the next call of this function or of
    ``recover``. Whatever is written into ``path`` later, and not by this tool, keeps the folder from being replaced.

    Args:
        inputs: files and folders that the folder is made from.

    Raises:
        PrunerError: before the block runs, if something is at ``path`` that this tool did not make, or ``path`` is,
            contains or lies in an input.
    """
    target = Path(path)
    if _in_the_making(target):
        yield target  # a part of the writer's own folder
        return
    refuse_inputs([target], inputs)
    refuse_fixed(target)
    place = place_of(target)
    recover(place)
    refuse_foreign(target, folder=True)
    with _room(place, "staged") as staged:
        yield staged
        seal(staged)
        # what was right at the start may be wrong hours later
        refuse_foreign(target, folder=True)
        _put(staged, place)


@contextmanager
def scratch_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` for intermediate files.

    The folder is deleted when the block ends. The next call deletes the folder of a killed block.
    """
    with _room(place_of(Path(path)), "scratch") as scratch:
        yield scratch


def growing_directory(path: Path) -> None:
    """Make a folder that gets one file after the other, each by ``staged_file``.

    Raises:
        PrunerError: if something is at ``path`` that this tool did not make.
    """
    refuse_foreign(path, folder=True)
    if state_of(path) != "growing":
        with staged_directory(path):
            pass
        mark(path, "growing")


def remove(path: Path) -> None:
    """Delete a folder that this tool made. With anything else inside, the whole folder stays."""
    if state_of(path) and first_foreign(path) is None:
        _delete(path)


def recover(place: Path) -> None:
    """Finish what killed writers of a folder left, and delete their hidden folders."""
    for kind in _KINDS:
        for left in _hidden(place, kind):
            if not _names(left):
                _discard(left)
                continue
            with _locked(left) as free:
                if not free:
                    continue
                if kind == "new" and (not os.path.lexists(place) or _replaceable(place)):
                    _install(left, place)
                elif kind == "old" and not os.path.lexists(place):
                    left.rename(place)
                else:
                    _discard(left)


def _hidden(place: Path, kind: str) -> list[Path]:
    """Hidden folders of this tool beside ``place``."""
    if not place.parent.is_dir():
        return []
    prefix = f".{_short(place)}.{kind}-"
    found = sorted(path for path in place.parent.iterdir() if path.name.startswith(prefix))
    return [path for path in found if not path.is_symlink() and path.is_dir() and _is_ours(path)]


def _is_ours(hidden: Path) -> bool:
    # a writer that is killed at once leaves a folder without a marker, or with an empty one
    return state_of(hidden) is not None or _names(hidden) <= {MARKER}


def _names(hidden: Path) -> set[str]:
    try:
        return {path.name for path in hidden.iterdir()}
    except FileNotFoundError:  # another writer was faster
        return set()


def _replaceable(place: Path) -> bool:
    return not place.is_symlink() and place.is_dir() and first_foreign(place) is None


def _in_the_making(folder: Path) -> bool:
    """Whether a folder is one that ``_room`` yields, which appears under its name, or goes, as a whole."""
    return bool(_ROOM.search(folder.name)) and state_of(folder) == "staged"


def _hide(place: Path, kind: str) -> Path:
    """A new hidden name beside ``place``."""
    return place.with_name(f".{_short(place)}.{kind}-{uuid.uuid4().hex[:12]}")


def _short(place: Path) -> str:
    name = place.name
    return name if len(os.fsencode(name)) <= _LONGEST else uuid.uuid5(uuid.NAMESPACE_URL, name).hex


@contextmanager
def _room(place: Path, kind: str) -> Iterator[Path]:
    """A locked hidden folder beside ``place``; it, or what then has its name, is deleted when the block ends."""
    place.parent.mkdir(parents=True, exist_ok=True)
    recover(place)
    made = False
    while not made:
        room = _hide(place, kind)
        room.mkdir()
        # another writer may take it for a left one until it is locked
        with suppress(FileNotFoundError):
            mark(room, "staged")
        with _locked(room) as made:
            if made:
                try:
                    yield room
                finally:
                    _discard(room)


@contextmanager
def _locked(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Lock the marker of a folder; False if there is none, or another process has locked it."""
    marker = folder / MARKER
    try:
        handle = os.open(marker, os.O_RDWR)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            # the folder may have been moved or deleted before
            free = os.path.samestat(marker.stat(), os.fstat(handle))
        except (BlockingIOError, FileNotFoundError):
            free = False
        except OSError:
            free = True  # a file system without locks
        yield free
    finally:
        os.close(handle)


def _put(staged: Path, place: Path) -> None:
    """Move a complete folder into its place. The folder that was there, if any, has the name ``staged`` then."""
    if not os.path.lexists(place):
        staged.rename(place)
        return
    with _locked(place, wait=True):
        if not _exchange(staged, place):
            new = _hide(place, "new")
            staged.rename(new)
            _install(new, place)


def _install(new: Path, place: Path) -> None:
    """Replace the folder at ``place`` by one beside it, in steps that ``recover`` can finish."""
    old = None
    if os.path.lexists(place):
        old = _hide(place, "old")
        try:
            place.rename(old)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # folders of a lower layer of an overlay cannot be renamed
            old = None
            _delete(place)
    new.rename(place)
    if old:
        _discard(old)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names at once; False if the system or the file system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if rename is None:
        return False
    swapped: int = rename(_AT_CWD, os.fsencode(one), _AT_CWD, os.fsencode(other), _EXCHANGE)
    return swapped == 0


def _discard(folder: Path) -> None:
    """Delete a hidden folder, if it is there."""
    with suppress(OSError):  # such as files that another process reads over NFS; they go with the next writer
        _delete(folder)


def _delete(folder: Path) -> None:
    """Delete a folder of this tool, its marker last, so that a part of it is still known as such."""
    for path in folder.iterdir():
        if path.name == MARKER:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    (folder / MARKER).unlink(missing_ok=True)
    folder.rmdir()


def write_text(path: str | os.PathLike[str], text: str, comment: str | None = None) -> None:
    """Write a text.

    Args:
        comment: how the format writes a comment, such as ``# {}``. A last line then says that this tool made the
            file; without it, the file is never replaced.
    """
    with staged_file(path) as staged:
        staged.write_text(text + (f"{comment.format(MADE_BY)}\n" if comment else ""), encoding="utf-8")


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

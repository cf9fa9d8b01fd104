"""Places of outputs and inputs, whatever names lead there: links, ``..``, mounts, upper and lower case."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from llm_pruner.system.errors import PrunerError
from llm_pruner.system.paths import folder_exists


def place_of(path: Path) -> Path:
    """The absolute path under which ``path`` itself lies. Links on the way to it are followed."""
    if path.name in ("", ".."):
        return real_path(path)
    return real_path(path.absolute().parent) / path.name


def real_path(path: Path) -> Path:
    """The absolute path without links. A circle of links stays as it is."""
    return Path(os.path.realpath(path))


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise PrunerError if an output is, contains or lies in an input, or in what an input links to."""
    sources = [source for given in inputs for source in _leads_to(given)]
    for output in outputs:
        place, real = place_of(output), real_path(output)
        own = _identities({place, real})
        around = _identities({*place.parents, *real.parents})
        for source in sources:
            identity = _identity(source)
            # an input that is not there has a name alone
            if identity in own or source in (place, real):
                relation = "is"
            elif identity in around or source in place.parents:
                relation = "lies in"
            elif own & _identities(source.parents):
                relation = "contains"
            else:
                continue
            raise PrunerError(f"{output}: {relation} the input {source}; choose another output")


def refuse_fixed(folder: Path) -> None:
    """Raise PrunerError if a folder cannot be replaced as a whole, whatever it holds."""
    if Path.cwd().is_relative_to(place_of(folder)):
        raise PrunerError(f"{folder}: is or contains the current folder; choose another output")
    if os.path.ismount(folder):
        raise PrunerError(f"{folder}: is a mount point, which cannot be replaced; choose a folder inside it")


def _leads_to(given: Path) -> Iterator[Path]:
    """The place of an input, and the places of the files that it consists of, if they are links."""
    yield place_of(given)
    yield real_path(given)
    if folder_exists(str(given)):
        yield from (real_path(path) for path in given.iterdir() if path.is_symlink())


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and number of a file, the same by whatever name it is reached; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _identities(paths: Iterable[Path]) -> set[tuple[int, int]]:
    return {identity for path in paths if (identity := _identity(path))}

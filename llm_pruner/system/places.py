"""Places of outputs and inputs, whatever names lead there: links, ``..``, mounts, upper and lower case."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from llm_pruner.system.errors import PrunerError


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
    known = {source: _identity(source) for source in sources}
    above = {identity for source in sources for identity in _identities(source.parents)}
    for output in outputs:
        place = place_of(output)
        around = _identities({place, *place.parents, real_path(output), *real_path(output).parents})
        within = next((source for source, identity in known.items() if identity and identity in around), None)
        if within is None and _identity(place) in above:
            within = next(source for source in sources if _identity(place) in _identities(source.parents))
        if within is None:
            # an input that is not there yet has a name alone
            within = next((source for source in sources if place.is_relative_to(source)), None)
        if within:
            raise PrunerError(f"{output}: would overwrite the input {within}; choose another output")


def _leads_to(given: Path) -> Iterator[Path]:
    """The place of an input, and the places of the files that it consists of, if they are links."""
    yield place_of(given)
    yield real_path(given)
    if given.is_dir():
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

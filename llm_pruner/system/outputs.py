"""What a command may write where: the check of all its outputs before it does anything."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from llm_pruner.system.errors import PrunerError
from llm_pruner.system.files import recover
from llm_pruner.system.ownership import MARKER, refuse_foreign
from llm_pruner.system.places import place_of, refuse_fixed, refuse_inputs


def replaced_by(
    *,
    folders: Iterable[Path] = (),
    remade: Iterable[Path] = (),
    records: Iterable[Path] = (),
    files: Iterable[Path] = (),
    reused: Iterable[Path] = (),
    continued: Iterable[Path] = (),
    inputs: Iterable[Path] = (),
    force: bool = False,
) -> list[Path]:
    """The files that writing these outputs would replace. Changes nothing, but finishes what a killed writer began.

    Nothing is replaced that this tool did not make, whatever ``force`` says.

    Args:
        folders: folders made as a whole, such as models; replaced only with ``force``.
        remade: the same, but replaced without ``force``.
        records: JSON records and token files; replaced without ``force``.
        files: all other files; replaced only with ``force``.
        reused: records that may be used as they are, and are claimed again before they are replaced.
        continued: folders from which a killed run goes on.
        inputs: files and folders that the outputs are made from.

    Raises:
        PrunerError: for an output that may not be replaced, that has no place, that is, contains or lies in an input or
            the current folder, or that has the place of another output.
    """
    folders, remade, records, files = list(folders), list(remade), list(records), list(files)
    reused, continued = list(reused), list(continued)
    outputs = [*folders, *remade, *records, *files, *reused, *continued]
    _refuse_collisions(outputs)
    refuse_inputs(outputs, inputs)
    for folder in (*folders, *remade):
        refuse_fixed(folder)
        recover(place_of(folder))
    for output in outputs:
        _refuse_unwritable(output)
    for folder in (*folders, *remade, *continued):
        refuse_foreign(folder, folder=True)
    for file in (*records, *files, *reused):
        refuse_foreign(file, folder=False)
    held = [folder for folder in folders if folder.is_dir() and any(folder.iterdir())]
    taken = [*held, *filter(os.path.lexists, files)]
    if taken and not force:
        raise PrunerError(f"{taken[0]}: exists already; choose another --output or replace it with --force")
    return _listed([*held, *remade], [*records, *files])


def _listed(folders: Iterable[Path], files: Iterable[Path]) -> list[Path]:
    """All files that are at these places or in these folders now."""
    inside = [path for folder in folders for path in sorted(folder.rglob("*")) if path.name != MARKER]
    return [*(path for path in inside if path.is_symlink() or path.is_file()), *filter(os.path.lexists, files)]


def _refuse_collisions(outputs: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    for output in outputs:
        other = seen.setdefault(place_of(output), output)
        if other is not output:
            raise PrunerError(f"{output}: would be two outputs of one command; choose another name")
    for place, output in seen.items():
        around = next((seen[parent] for parent in place.parents if parent in seen), None)
        if around:
            raise PrunerError(f"{output}: would lie in another output, {around}; choose another name")


def _refuse_unwritable(output: Path) -> None:
    """Raise PrunerError if nothing can be made at the place of an output."""
    parent = next(folder for folder in place_of(output).parents if os.path.lexists(folder))
    if not parent.is_dir():
        raise PrunerError(f"{output}: cannot be made, since {parent} is no folder; choose another output")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PrunerError(f"{output}: cannot be made, since {parent} is not writable; choose another output")

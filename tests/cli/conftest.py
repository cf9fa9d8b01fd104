"""Every command of these tests may write only what it claimed before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from llm_pruner.cli.common import Commands
from llm_pruner.system import files, outputs
from llm_pruner.system.places import place_of


@pytest.fixture(autouse=True)
def what_is_written_was_claimed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    claimed: set[Path] = set()
    written: dict[str, set[Path]] = {}
    command: list[str] = []
    collisions, room, invoke = outputs._refuse_collisions, files._room, Commands.invoke

    def claiming(places: list[Path]) -> None:
        claimed.update(map(place_of, places))
        collisions(places)

    def writing(place: Path, kind: str) -> AbstractContextManager[Path]:
        if command and kind == "staged" and not any(path in claimed for path in (place, *place.parents)):
            written.setdefault(command[0], set()).add(place)
        return room(place, kind)

    def invoking(self: Commands, context: Any) -> Any:
        command.append(context.info_name)
        try:
            return invoke(self, context)
        finally:
            command.pop()

    monkeypatch.setattr(outputs, "_refuse_collisions", claiming)
    monkeypatch.setattr(files, "_room", writing)
    monkeypatch.setattr(Commands, "invoke", invoking)
    yield
    hidden = {place for places in written.values() for place in places if is_temporary(place)}
    assert {place for places in written.values() for place in places} - hidden == set()


def is_temporary(place: Path) -> bool:
    """Whether a place lies in a folder that the tool made for its work, and deletes."""
    return any(files._ROOM.search(part) for part in place.parts)

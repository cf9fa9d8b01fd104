"""Killed between any two of its steps, a writer leaves the old or the new output, and the next writer ends right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTHING_LEFT = {"hidden": [], "left": 0}


def states(folder: Path, how: str, what: str, begin: str) -> list[dict[str, Any]]:
    folder.mkdir()
    program = Path(__file__).with_name("killing.py")
    done = subprocess.run(
        [sys.executable, program, folder, how, what, begin], stdout=subprocess.PIPE, check=True, text=True
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(found) > 15
    assert not found[-1]["killed"] and all(state["killed"] for state in found[:-1])
    for state in found:
        assert state["recovered"] == {**NOTHING_LEFT, "place": state["recovered"]["place"]}, state
        assert state["end"] == {**NOTHING_LEFT, "place": "third"}, state
    return found


@pytest.mark.parametrize("what", ["folder", "file"])
def test_the_old_or_the_new_one_is_in_its_place_at_every_moment(what: str, tmp_path: Path) -> None:
    found = states(tmp_path / "room", "exchange", what, "old")
    assert {state["after"]["place"] for state in found} == {"old", "new"}
    order = [state["after"]["place"] for state in found]
    assert order == sorted(order, reverse=True)
    assert all(state["recovered"]["place"] == state["after"]["place"] for state in found)


@pytest.mark.parametrize("how", ["rename", "overlay"])
def test_where_names_cannot_be_exchanged_one_is_complete_and_comes_back(how: str, tmp_path: Path) -> None:
    found = states(tmp_path / "room", how, "folder", "old")
    for state in found:
        assert {"old", "new"} & {state["after"]["place"], *state["after"]["hidden"]}, state
        assert state["recovered"]["place"] in ("old", "new")
    # the way leads through moments without a whole folder in its place, and through recoveries that were killed
    assert {None if how == "overlay" else "nothing"} <= {state["after"]["place"] for state in found}
    assert max(state["recoveries"] for state in found) > 5


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_first_output_is_whole_or_not_there(what: str, tmp_path: Path) -> None:
    found = states(tmp_path / "room", "exchange", what, "nothing")
    assert {state["after"]["place"] for state in found} == {"nothing", "new"}

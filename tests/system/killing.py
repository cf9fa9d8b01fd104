"""A writer that is killed at every one of its steps in turn, and what is there afterwards. Prints JSON.

A program of its own, because it forks a process for every step: ``python killing.py FOLDER HOW WHAT BEGIN``. A step is
a call into the system that changes something there, as Python announces it to its audit hooks, or a line of a function
that makes calls which Python does not announce.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm_pruner.system import files
from llm_pruner.system.ownership import made_whole

ANNOUNCED = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "ctypes.dlsym"}
TRACED = {"mark", "_put", "_install", "_exchange"}


def killed(step: int, work: Callable[[], object]) -> bool:
    """Do some work in another process, which is killed before its step of this number; whether it was."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise RuntimeError(f"step {step}: the writer failed")
        return os.WIFSIGNALED(status)
    left = step

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def trace(frame: Any, event: str, _: object) -> Any:
        if frame.f_code.co_name not in TRACED:
            return None
        if event == "line":
            count()
        return trace

    def announced(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ANNOUNCED or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            count()

    sys.addaudithook(announced)
    sys.settrace(trace)
    try:
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)


def write(place: Path, text: str, what: str) -> None:
    if what == "file":
        files.write_text(place, f"{text}\n", comment="# {}")
        return
    with files.staged_directory(place) as folder:
        (folder / "config").write_text(text)
        (folder / "deep").mkdir()
        (folder / "deep" / "weights").write_text(text)


def contents(place: Path) -> str | None:
    """The text of a whole output; None if there is none, or a part."""
    if place.is_file():
        return place.read_text().split()[0]
    if not made_whole(place):
        return None
    held = {path.read_text() for path in (place / "config", place / "deep" / "weights") if path.exists()}
    return held.pop() if len(held) == 1 and (place / "deep" / "weights").exists() else None


def cannot_exchange(how: str, place: Path) -> None:
    """Take from this process what the file system is to lack."""
    if how == "exchange":
        return
    files._exchange = lambda one, other: False
    rename = Path.rename

    def over_an_overlay(self: Path, target: Path) -> Path:
        if how == "overlay" and self == place:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return rename(self, target)

    Path.rename = over_an_overlay


def told(folder: Path, place: Path) -> dict[str, Any]:
    hidden = [path for path in folder.iterdir() if path != place]
    return {
        "place": contents(place) if os.path.lexists(place) else "nothing",
        "hidden": sorted(filter(None, map(contents, hidden))),
        "left": len(hidden),
    }


def states(folder: Path, place: Path, how: str, what: str, begin: str) -> list[dict[str, Any]]:
    """What is there after a kill at each step, after a recovery that is killed likewise, and after the next write."""
    found: list[dict[str, Any]] = []
    step, alive = 0, False
    while not alive:
        step += 1
        again, whole = 0, False
        while not whole:
            shutil.rmtree(folder)
            folder.mkdir()
            if begin == "old":
                write(place, "old", what)
            alive = not killed(step, lambda: write(place, "new", what))
            state = {"step": step, "killed": not alive, "after": told(folder, place)}
            again += 1
            known = any(state["after"] == other["after"] for other in found)
            whole = known or not killed(again, lambda: files.recover(place))
        files.recover(place)
        state["recoveries"] = again
        state["recovered"] = told(folder, place)
        write(place, "third", what)
        state["end"] = told(folder, place)
        found.append(state)
    return found


if __name__ == "__main__":
    room, how, what, begin = sys.argv[1:]
    place = Path(room, "model")
    cannot_exchange(how, place.parent.resolve() / place.name)
    json.dump(states(Path(room), place, how, what, begin), sys.stdout)

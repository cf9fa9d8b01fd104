"""Names of lm-eval's tasks, found without importing lm-eval, whose own index takes a minute to build."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from llm_pruner.system.files import write_json

_NAMED = re.compile(r"""^["']?(?:task|group|tag)["']?[ \t]*:(.*(?:\n[ \t]*[-#].*)*)""", re.MULTILINE)
_NAME = re.compile(r"""[^\s,\[\]'"#]+""")
_OTHER = {".py", ".pyc", ".md", ".sh", ".json", ".jsonl", ".csv", ".tsv", ".txt", ".lark", ".jpg", ".png"}
"""Suffixes of files that define no task. Templates of tasks have no suffix, or any other."""


def known_tasks() -> frozenset[str] | None:
    """Names of the tasks, groups and tags of the lm-eval that is installed; None where it is not.

    A few words that are no names are among them, but no name is missing. They are kept in the user's cache folder, and
    read there the next time.
    """
    spec = find_spec("lm_eval")
    try:
        installed = version("lm_eval")
    except PackageNotFoundError:
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "tasks"
    origin = {"folder": str(folder), "version": installed}
    cache = _cache_folder() / "lm_eval_tasks.json"
    kept = _kept(cache, origin)
    if kept is not None:
        return kept
    names = frozenset(_names(folder))
    with suppress(OSError):  # a home that cannot be written costs the search again, and no more
        cache.unlink(missing_ok=True)  # of another version, or damaged
        write_json(cache, {"origin": origin, "names": sorted(names)})
    return names


def _kept(cache: Path, origin: dict[str, str]) -> frozenset[str] | None:
    """The names that were found before for this lm-eval; None if there are none, or the file is damaged."""
    try:
        kept = json.loads(cache.read_text(encoding="utf-8"))
        return frozenset(kept["names"]) if kept["origin"] == origin else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _names(folder: Path) -> set[str]:
    found: set[str] = set()
    for path in folder.rglob("*"):
        if path.suffix not in _OTHER and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            for match in _NAMED.finditer(text):
                found.update(_NAME.findall(match[1]))
    return found


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm_pruner"

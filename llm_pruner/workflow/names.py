"""Names that become folders and files: different names, different places, on every disk."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def clashes(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of different names that are one name on a disk that ignores case, or on one that composes accents.

    >>> clashes(["GQA_A_2000", "GQA_2000", "GQA_a_2000"])
    [('GQA_A_2000', 'GQA_a_2000')]
    """
    first: dict[str, str] = {}
    found = []
    for name in dict.fromkeys(names):
        other = first.setdefault(unicodedata.normalize("NFC", name.casefold()), name)
        if other != name:
            found.append((other, name))
    return found


def clash_problems(section: str, names: Iterable[str]) -> list[str]:
    """A problem for each clash, as the configuration reports it."""
    return [
        f"{section}: '{one}' and '{other}' differ in case alone, and would share a folder on many disks; rename one"
        for one, other in clashes(names)
    ]

"""Files that the page is put together from, besides Python."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent
_SCRIPTS = ("state", "chart", "details", "table", "compare", "layers", "start")
"""Files of ``js/``, in the order in which they need each other."""


def page_files() -> list[Path]:
    """The template, the style sheet and then the scripts, in their order."""
    return [_HERE / "index.html", _HERE / "style.css", *(_HERE / "js" / f"{name}.js" for name in _SCRIPTS)]

"""Parts of the page that are not Python."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent
_SCRIPTS = ("state", "chart", "details", "best", "table", "compare", "layers", "start")
"""Files of ``js/``, each after the files that it needs."""


def page_files() -> list[Path]:
    """The template, the style sheet and then the scripts, in their order."""
    return [_HERE / "index.html", _HERE / "style.css", *(_HERE / "js" / f"{name}.js" for name in _SCRIPTS)]

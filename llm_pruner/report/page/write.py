"""Put the page together."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from string import Template

from llm_pruner.report.page.data import page_data
from llm_pruner.report.page.files import page_files
from llm_pruner.report.table import Results
from llm_pruner.system.files import write_text


def write_page(results: Results, path: str | os.PathLike[str]) -> None:
    """Write the page of a run: chart, table, comparison of two models and layers. The same results make the same file.

    No part of the results becomes markup or script: the page holds them as JSON, which a browser does not run, and the
    page's policy allows only its own scripts.
    """
    from plotly.offline import get_plotlyjs

    template, style, *scripts = (file.read_text(encoding="utf-8") for file in page_files())
    library = get_plotlyjs()
    own = '"use strict";\n(() => {\n' + "\n".join(scripts) + "})();\n"
    page = Template(template).substitute(
        style=style,
        data=_embedded(page_data(results)),
        library=library,
        script=own,
        policy=" ".join(_hash(script) for script in (library, own)),
    )
    write_text(path, page, comment="<!-- {} -->")


def _embedded(value: object) -> str:
    """JSON for use inside ``<script>``: it neither ends the element nor opens another.

    >>> _embedded({"name": "</script>"})
    '{"name":"\\\\u003c/script>"}'
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _hash(script: str) -> str:
    """The name of an inline script in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"

"""Where the base model came from, as a file."""

from __future__ import annotations

from typing import Any, ClassVar

from llm_pruner.system.records import Record, RunRecord


class BaseRecord(Record):
    """Where the base model came from."""

    file: ClassVar[str] = "resources/model.json"

    source: str
    """A folder, a GGUF file, the name of a packaged model or an id on the hub."""
    revision: str | None
    """Branch, tag or commit on the hub."""
    family: str
    """Kind of model, as its configuration names it."""
    parameters: int
    """Stored."""
    layers: int
    """Of the decoder."""
    gguf: dict[str, Any] | None = None
    """What the GGUF file was, where it was made from one."""
    run: RunRecord
    """The job that made the folder."""

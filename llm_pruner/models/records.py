"""The origin of the base model, as a file."""

from __future__ import annotations

from typing import Any, ClassVar

from llm_pruner.system.records import Record, RunRecord


class BaseRecord(Record):
    """The origin of the base model."""

    file: ClassVar[str] = "resources/model.json"

    source: str
    """Source of the model: a folder, a GGUF file, the name of a packaged model or an id on the hub."""
    revision: str | None
    """Branch, tag or commit on the hub."""
    family: str
    """Model family, as in the model's configuration."""
    parameters: int
    """Stored parameters."""
    layers: int
    """Decoder layers."""
    gguf: dict[str, Any] | None = None
    """Facts about the GGUF file; null for other sources."""
    run: RunRecord
    """The job that made the folder."""

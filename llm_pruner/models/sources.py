"""The kind of a base model's source, from its name alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from llm_pruner.models.gguf import SUFFIX
from llm_pruner.models.packages import MODELS
from llm_pruner.system.errors import CheckpointError, nearest
from llm_pruner.system.paths import expanded, file_exists, folder_exists

BUILTIN = "builtin"
Kind = Literal["builtin", "package", "gguf", "folder", "hub"]


def kind_of(source: str, gguf_file: str | None = None) -> Kind:
    """The kind of a source: built-in, package, GGUF file, local folder, or hub.

    Args:
        source: value of ``model.source``.
        gguf_file: name of the GGUF file to read from a folder or a hub repository.

    Raises:
        CheckpointError: for a missing file or folder, an unknown name, or a ``gguf_file`` with a source that has no
            files to choose from.
    """
    kind = _kind(source)
    if gguf_file and kind not in ("folder", "hub"):
        raise CheckpointError(f"'{source}' has no files to choose from; leave out gguf_file '{gguf_file}'")
    return "gguf" if gguf_file and kind == "folder" else kind


def is_hub_id(source: str) -> bool:
    """Whether a text has the form of a model's id on the hub, ``owner/name``, or ``name`` for the oldest models."""
    return re.fullmatch(r"(?:\w[\w.-]{0,95}/)?\w[\w.-]{0,95}", source, re.ASCII) is not None


def _kind(source: str) -> Kind:
    if source == BUILTIN:
        return "builtin"
    if source in MODELS:
        return "package"
    path = expanded(source)
    if folder_exists(str(path)):
        return "folder"
    if path.suffix == SUFFIX:
        if not file_exists(str(path)):
            raise CheckpointError(f"no GGUF file '{source}'")
        return "gguf"
    if source.startswith((".", "/", "~")):
        raise CheckpointError(f"no folder '{source}'")
    if source.count("/") == 1 and is_hub_id(source):
        return "hub"
    raise CheckpointError(
        f"'{source}' is no known model, no folder, no GGUF file, and no id on the hub, which is written owner/name"
        f"{nearest(source, (BUILTIN, *MODELS))}"
    )


def gguf_path(source: str, gguf_file: str | None = None) -> Path:
    """The file on this machine of a source of the kind ``gguf``."""
    path = expanded(source)
    return path / gguf_file if gguf_file else path

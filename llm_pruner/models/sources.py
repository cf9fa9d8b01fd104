"""Where a base model comes from, told from its name alone."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from llm_pruner.models.gguf import SUFFIX
from llm_pruner.models.packages import MODELS
from llm_pruner.system.errors import CheckpointError, nearest

BUILTIN = "builtin"
Kind = Literal["builtin", "package", "gguf", "folder", "hub"]


def kind_of(source: str, gguf_file: str | None = None) -> Kind:
    """What a source is: trained on the spot, in a package, a GGUF file, a local folder, or on the hub.

    Args:
        source: as ``model.source`` has it.
        gguf_file: the GGUF file that is meant, of a folder or a repository of the hub.

    Raises:
        CheckpointError: for a file or folder that is not there, a name that is none of these, or a ``gguf_file``
            beside what has none.
    """
    kind = _kind(source)
    if gguf_file and kind not in ("folder", "hub"):
        raise CheckpointError(f"'{source}' has no files to choose from, leave out gguf_file '{gguf_file}'")
    return "gguf" if gguf_file and kind == "folder" else kind


def _kind(source: str) -> Kind:
    if source == BUILTIN:
        return "builtin"
    if source in MODELS:
        return "package"
    path = Path(source).expanduser()
    if path.is_dir():
        return "folder"
    if path.suffix == SUFFIX:
        if not path.is_file():
            raise CheckpointError(f"no GGUF file '{source}'")
        return "gguf"
    if source.startswith((".", "/", "~")):
        raise CheckpointError(f"no folder '{source}'")
    if source.count("/") == 1:
        return "hub"
    raise CheckpointError(
        f"'{source}' is no known model, no folder, no GGUF file, and no id on the hub, which is written owner/name"
        f"{nearest(source, (BUILTIN, *MODELS))}"
    )


def gguf_path(source: str, gguf_file: str | None = None) -> Path:
    """The file on this machine that a source of the kind ``gguf`` is."""
    path = Path(source).expanduser()
    return path / gguf_file if gguf_file else path

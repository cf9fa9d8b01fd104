"""Where an interrupted training goes on from, and what that must belong to."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_pruner.system.files import MARKER
from llm_pruner.system.provenance import sha256

RESUME_POINT = "resume_point"
"""Folder beside the model that is made; no output of a job, so that it outlives one that was killed."""


def identity_of(options: Mapping[str, Any], *files: Path) -> str:
    """What a training is: its options, and the content of what it starts from."""
    contents = [sha256(file) for file in files]
    return hashlib.sha256(json.dumps([options, contents], sort_keys=True).encode()).hexdigest()


def weight_files(*folders: Path) -> list[Path]:
    """The weights of model folders, in an order that depends on their names alone."""
    return [file for folder in folders for file in sorted(folder.glob("*.safetensors"))]


def clear_resume_point(output: Path) -> None:
    """Remove the resume point of a finished run: while it is there, the run made again starts from its end."""
    folder = output / RESUME_POINT
    if (folder / MARKER).exists():
        shutil.rmtree(folder)

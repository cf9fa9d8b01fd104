"""Resume points: the state from which an interrupted training continues, and the identity of the training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_pruner.system.files import remove
from llm_pruner.system.provenance import sha256

RESUME_POINT = "resume_point"
"""Folder beside the model. No output of a job, so that it outlives a killed job."""


def identity_of(options: Mapping[str, Any], *files: Path) -> str:
    """Digest of a training: of its options, and of the contents of its input files."""
    contents = [sha256(file) for file in files]
    return hashlib.sha256(json.dumps([options, contents], sort_keys=True).encode()).hexdigest()


def weight_files(*folders: Path) -> list[Path]:
    """Weight files of model folders, in an order that depends only on their names."""
    return [file for folder in folders for file in sorted(folder.glob("*.safetensors"))]


def clear_resume_point(output: Path) -> None:
    """Remove the resume point of a finished run. If it stayed, a repeated run would start from its end."""
    remove(output / RESUME_POINT)

"""Paths as users write them, which may be no paths at all."""

from __future__ import annotations

import os.path
from pathlib import Path


def expanded(path: str) -> Path:
    """The path with ``~`` replaced by a home folder; unchanged if there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises for an unknown user


def file_exists(path: str) -> bool:
    """Whether a text is the path of a file. No text is an error, however long."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises for names that are too long


def folder_exists(path: str) -> bool:
    """Whether a text is the path of a folder. No text is an error, however long."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises for names that are too long

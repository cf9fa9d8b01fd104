"""Edits of the package that its files do not see: which jobs' digests they change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from llm_pruner.workflow import fingerprint
from tests.tiny import ROOT

Jobs = Mapping[str, tuple[str | Path, ...]]
"""What the digest of each job starts from."""


def digests(jobs: Jobs) -> dict[str, str]:
    return {name: fingerprint.sources_digest(*entries) for name, entries in jobs.items()}


def changed_by_edit(file: str, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Jobs whose digest is another once this file of the package has a further statement."""
    edited = ROOT / "llm_pruner" / file
    assert edited.exists()
    before = digests(jobs)
    code = fingerprint._normalised

    def with_the_edit(path: Path) -> str:
        return code(path) + "EDITED = True" * (path == edited)

    with monkeypatch.context() as patched:
        patched.setattr(fingerprint, "_normalised", with_the_edit)
        after = digests(jobs)
    return {name for name in before if before[name] != after[name]}

"""A finished run of the workflow, and copies of it to change."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from tests.tiny.workflows import Workflow


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, ready_python: Path) -> Workflow:
    """A complete run, one for all workers; only to be read and cloned."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    with root.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        workflow = Workflow(root, ready_python) if root.exists() else Workflow.create(root, ready_python)
        if not (workflow.run_folder / "results" / "summary.xlsx").exists():
            workflow.run("--notemp")
    return workflow


@pytest.fixture
def workflow(finished: Workflow, tmp_path: Path) -> Workflow:
    return finished.clone(tmp_path / "clone")

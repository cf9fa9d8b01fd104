"""The provenance of results: package versions, seed, device, options and time, kept beside every result."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from llm_pruner.system.records import Machine, RunRecord

PACKAGES = (
    "torch",
    "transformers",
    "safetensors",
    "peft",
    "bitsandbytes",
    "lm-eval",
    "datasets",
    "numpy",
    "llm-pruner",
)


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that influence results, found without imports."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's contents, in hex."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class Run:
    """Times one job and describes it.

    >>> run = Run(options={"ratio": 0.2}, seed=0)
    >>> run.describe().options, run.describe().seed
    ({'ratio': 0.2}, 0)
    """

    def __init__(self, options: Mapping[str, Any], seed: int | None = None, device: str | None = None) -> None:
        self.options = dict(options)
        self.seed = seed
        self.device = device
        self.started = datetime.now(UTC)
        self._clock = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall time since the start of the job."""
        return round(time.perf_counter() - self._clock, 3)

    def describe(self) -> RunRecord:
        """The record of the job so far."""
        return RunRecord(
            started=self.started.isoformat(timespec="seconds"),
            seconds=self.seconds,
            seed=self.seed,
            device=self.device,
            machine=Machine(system=platform.platform(), processor=platform.machine(), cores=os.cpu_count()),
            options=self.options,
            versions=package_versions(),
        )

"""What every script does around its one library call: log to a file, and fail with one clear message."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llm_pruner.errors import PrunerError


@contextmanager
def job(snakemake: Any, *, terminal: bool = False) -> Iterator[None]:
    """Send what is printed to the job's log. A ``PrunerError`` ends the job with its message alone.

    Args:
        snakemake: the object Snakemake gives every script.
        terminal: leave output on the terminal, for a long job that runs alone and shows its progress.
    """
    with Path(snakemake.log[0]).open("w", encoding="utf-8", buffering=1) as log:
        if not terminal:
            os.dup2(log.fileno(), sys.stdout.fileno())
            os.dup2(log.fileno(), sys.stderr.fileno())
        try:
            yield
        except PrunerError as error:
            log.write(f"{error}\n")
            raise SystemExit(1) from None

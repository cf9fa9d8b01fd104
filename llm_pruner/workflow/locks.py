"""Starting a run where an earlier one was killed: its lock is cleared, its jobs are waited for."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

STATE = Path(".snakemake")


def clear_stale_lock(folder: Path = STATE) -> IO[str] | None:
    """Delete Snakemake's lock files if no run holds them, and hold this folder's run lock.

    Snakemake's lock files outlive a killed process; a kernel lock does not. Whoever gets the kernel lock knows that the
    files are left over.

    Returns:
        The open lock file, to be kept for as long as the run lasts; None if another run holds it.
    """
    folder.mkdir(exist_ok=True)
    handle = (folder / "llm_pruner.lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    shutil.rmtree(folder / "locks", ignore_errors=True)
    return handle


def wait_for_left_over_jobs(say: Callable[[str], object], folder: Path = STATE, seconds: float = 5) -> None:
    """Wait for the SLURM jobs of a killed run: they would write what this run makes again.

    Only the holder of the run lock may call this: jobs that log into ``folder`` then belong to no living run.

    Args:
        say: gets one message when jobs are found, and one whenever further jobs are.
        folder: Snakemake's state of the run.
        seconds: between two looks at the queue.
    """
    if shutil.which("squeue") is None:
        return
    queue = ["squeue", "--noheader", f"--user={os.getuid()}", "--Format=JobID: ,STDOUT: "]
    logs = f"{(folder / 'slurm_logs').resolve()}/"
    told: set[str] = set()
    while True:
        lines = subprocess.run(queue, capture_output=True, text=True, check=False).stdout.splitlines()
        jobs = {job for job, _, log in (line.partition(" ") for line in lines) if log.startswith(logs)}
        if not jobs:
            return
        if jobs - told:
            say(
                f"Waiting for SLURM jobs that an earlier run left here: {' '.join(sorted(jobs))}. "
                "What they finish is kept; scancel them to start again without."
            )
            told |= jobs
        time.sleep(seconds)

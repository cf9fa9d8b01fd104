"""Start a run in a folder where an earlier run was killed: clear its lock, wait for its jobs."""

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

    Snakemake's lock files outlive a killed process; a kernel lock does not. A process that gets the kernel lock knows
    that the files are left over.

    Returns:
        The open lock file, to keep as long as the run lasts; None if another run holds it.
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
    """Wait for the SLURM jobs of a killed run, which would write the same files as this run.

    Only the holder of the run lock may call this: only then do jobs that log into ``folder`` belong to no living run.

    Args:
        say: called with a message when jobs are found, and again for further jobs.
        folder: Snakemake's folder for the state of the run.
        seconds: time between two looks at the queue.
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
                f"Waiting for SLURM jobs of an earlier run in this folder: {' '.join(sorted(jobs))}. "
                "This run keeps their results; scancel them to make the results anew."
            )
            told |= jobs
        time.sleep(seconds)

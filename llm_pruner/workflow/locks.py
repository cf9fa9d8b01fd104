"""One writer at a time in the folder of a run: its lock, and the jobs that a killed run left behind."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from llm_pruner.system.errors import PrunerError

STATE = Path(".snakemake")

_LOCK = "llm_pruner.lock"
_JOBS = "llm_pruner.jobs"
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of a file system without kernel locks."""


def hold_run(folder: Path = STATE) -> IO[str]:
    """Hold this folder's run lock, and delete the lock files that a killed run of Snakemake left behind.

    Snakemake's lock files outlive a killed process; a kernel lock does not. So whoever gets the kernel lock knows that
    the files are left over. On a file system without kernel locks, Snakemake's files stay and are the only lock.

    Returns:
        The open lock file, to keep as long as the run lasts.

    Raises:
        PrunerError: if the folder cannot be written, or another run holds the lock. Names its process, machine and
            start.
    """
    try:
        folder.mkdir(exist_ok=True)
        # not "w": the file names the holder, which a process that is refused must not erase
        handle = (folder / _LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise PrunerError(
            f"{folder.absolute().parent}: a run cannot write here ({error.strerror}); copy it to a place where one "
            "can. Dry runs and llm-pruner show work here too."
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        holder = handle.readline().strip() or "a process that has just started"
        handle.close()
        raise PrunerError(
            f"{folder.absolute().parent}: another run writes into this folder, {holder}; wait until it has ended, or "
            "stop it. Dry runs and reports need not wait."
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return handle
    handle.truncate(0)
    handle.write(f"process {os.getpid()} on {platform.node()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n")
    handle.flush()
    for left_over in (folder / "locks").glob("*.lock"):
        left_over.unlink()
    return handle


@contextmanager
def job_at_work(folder: Path = STATE) -> Iterator[None]:
    """Tell further runs in this folder, as long as the block lasts, that this process writes into it.

    Only a run's own folder has ``folder``; elsewhere nothing is told.
    """
    if not folder.is_dir():
        yield
        return
    jobs = folder / _JOBS
    jobs.mkdir(exist_ok=True)
    path = jobs / f"{os.getpid()} on {platform.node()}"
    with path.open("w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def wait_for_left_over_jobs(say: Callable[[str], object], folder: Path = STATE, seconds: float = 5) -> None:
    """Wait for the jobs of a killed run, which would write the same files as this run.

    Only the holder of the run lock may call this: only then do such jobs belong to no living run.

    Args:
        say: called with a message when jobs are found, and again for further jobs.
        folder: Snakemake's folder for the state of the run.
        seconds: time between two looks at the jobs.
    """
    if shutil.which("squeue") is not None:
        _wait(
            lambda: _queued(folder),
            lambda jobs: (
                f"Waiting for SLURM jobs of an earlier run in this folder: {' '.join(jobs)}. "
                "This run keeps their results; scancel them to make the results anew."
            ),
            say,
            seconds,
        )
    # later: a job in the queue is such a process too, and SLURM knows more of it
    _wait(
        lambda: _processes(folder / _JOBS),
        lambda jobs: (
            f"Waiting for jobs of an earlier run in this folder, process {', '.join(jobs)}; end them to go on."
        ),
        say,
        seconds,
    )


def _wait(
    look: Callable[[], set[str]],
    message: Callable[[list[str]], str],
    say: Callable[[str], object],
    seconds: float,
) -> None:
    told: set[str] = set()
    while jobs := look():
        if jobs - told:
            say(message(sorted(jobs)))
            told |= jobs
        time.sleep(seconds)


def _processes(jobs: Path) -> set[str]:
    """Processes at work, by number and machine. Deletes the files of those that were killed."""
    living = set()
    for path in jobs.glob("*"):
        try:
            with path.open(encoding="utf-8") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        except BlockingIOError:
            living.add(path.name)
        except FileNotFoundError:
            continue  # ended since
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
    return living


def _queued(folder: Path) -> set[str]:
    """Numbers of the SLURM jobs that log into ``folder``."""
    queue = ["squeue", "--noheader", f"--user={os.getuid()}", "--Format=JobID: ,STDOUT: "]
    logs = f"{(folder / 'slurm_logs').resolve()}/"
    lines = subprocess.run(queue, capture_output=True, text=True, check=False).stdout.splitlines()
    return {job for job, _, log in (line.partition(" ") for line in lines) if log.startswith(logs)}

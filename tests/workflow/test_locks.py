"""One writer at a time in a run's folder: who holds it, who waits, and who need not ask."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llm_pruner.system.errors import PrunerError
from llm_pruner.workflow import locks


@contextmanager
def another_process(code: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has run this code on the folder and waits to be killed."""
    program = (
        "import sys; from pathlib import Path; from llm_pruner.workflow import locks; folder = Path(sys.argv[1])\n"
        f"{code}; print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout and other.stdout.readline() == "held\n"
            yield other
        finally:
            other.kill()


def test_a_second_run_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    state = tmp_path / "state"
    left_over = state / "locks" / "0.input.lock"
    with another_process("handle = locks.hold_run(folder)", state) as other:
        left_over.parent.mkdir()
        left_over.touch()
        for _ in range(2):  # asking changes nothing
            with pytest.raises(
                PrunerError, match=rf"another run writes into this folder, process {other.pid} on .+ UTC"
            ):
                locks.hold_run(state)
        assert left_over.exists()
    assert locks.hold_run(state)
    assert not left_over.exists()
    assert (state / "llm_pruner.lock").read_text().startswith(f"process {os.getpid()} on ")


def test_jobs_that_a_killed_run_left_behind_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    said: list[str] = []
    locks.wait_for_left_over_jobs(said.append, tmp_path, seconds=0)
    assert not said
    with another_process("job = locks.job_at_work(folder); job.__enter__()", tmp_path) as other:

        def end(message: str) -> None:
            said.append(message)
            other.kill()

        locks.wait_for_left_over_jobs(end, tmp_path, seconds=0)
        assert len(said) == 1 and f"process {other.pid} on " in said[0]
    assert not list((tmp_path / "llm_pruner.jobs").iterdir())
    with locks.job_at_work(tmp_path):
        assert len(list((tmp_path / "llm_pruner.jobs").iterdir())) == 1
    assert not list((tmp_path / "llm_pruner.jobs").iterdir())


def test_where_nothing_can_be_written_the_message_says_so(tmp_path: Path) -> None:
    (tmp_path / ".snakemake").touch()  # no folder, so nothing can be put into it
    with pytest.raises(PrunerError, match=r"a run cannot write here \(.+\); copy it to"):
        locks.hold_run(tmp_path / ".snakemake" / "state")


def test_outside_of_a_run_a_job_leaves_no_trace(tmp_path: Path) -> None:
    with locks.job_at_work(tmp_path / ".snakemake"):
        assert not list(tmp_path.iterdir())


def test_without_kernel_locks_the_files_of_snakemake_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_: Any) -> None:
        raise OSError(locks.errno.ENOLCK, "no locks available")

    monkeypatch.setattr(locks.fcntl, "flock", without)
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "0.input.lock").touch()
    assert locks.hold_run(tmp_path)
    assert (tmp_path / "locks" / "0.input.lock").exists()


SNAKEFILE = """
from pathlib import Path
from llm_pruner.workflow import snakemake_private

def prepare():
    with Path("prepared").open("a") as file:
        file.write("x")

if workflow.is_main_process:
    snakemake_private.before_writing(workflow, prepare)

rule all:
    output: "made"
    log: "all.log"
    conda: "env.yaml"
    shell: "touch {output} 2> {log}"
"""
PROGRAM = """
import sys
from pathlib import Path
from snakemake.cli import main
for arguments in sys.argv[1:]:
    before = Path("prepared").read_text() if Path("prepared").exists() else ""
    try:
        main(["--cores", "1", *arguments.split()])
    except SystemExit:
        pass
    after = Path("prepared").read_text() if Path("prepared").exists() else ""
    Path("told").open("a").write(f"{arguments}: {len(after) - len(before)}\\n")
"""


def test_who_only_looks_does_not_hold_the_folder(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    looks = ["--dry-run", "--summary", "--list-rules", "--dag", "--lint", "--delete-all-output --dry-run"]
    writes = ["all", "--unlock", "--touch", "--delete-all-output"]
    command = [sys.executable, "-c", PROGRAM, *looks, *writes, "--report report.html"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    told = (tmp_path / "told").read_text().splitlines()
    assert told == [*(f"{one}: 0" for one in looks), *(f"{one}: 1" for one in writes), "--report report.html: 0"]

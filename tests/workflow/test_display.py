"""What a run shows while it runs: Snakemake's events in, lines out."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import pytest

from llm_pruner.workflow.display import LAST_LINES, Display, duration_text, seconds_left


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Run:
    """A display, and events as Snakemake sends them, at times of our own."""

    def __init__(self, stream: io.StringIO) -> None:
        self.stream, self.now, self.told = stream, 0.0, 0
        self.display = Display(stream, nothing_to_do=self.tell, clock=lambda: self.now)

    def tell(self) -> None:
        self.told += 1

    def send(self, event: str | None, message: str = "", level: int = logging.INFO, **values: Any) -> None:
        record = logging.LogRecord("snakemake", level, "", 0, message, (), None)
        record.__dict__.update(values, event=event) if event else None
        self.display.handle(record)

    def start(self, jobid: int, rule: str, **wildcards: str) -> None:
        self.send("job_info", jobid=jobid, rule_name=rule, wildcards=wildcards)

    def end(self, jobid: int) -> None:
        self.send("job_finished", job_id=jobid)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


def test_a_log_file_gets_a_line_for_each_start_and_end() -> None:
    run = Run(io.StringIO())
    run.send("run_info", "Job stats:\n...", stats={"prune": 2, "total": 2})
    run.start(1, "prune", variant="A_2000")
    run.now = 75
    run.end(1)
    run.start(2, "prune", variant="B_2000")
    run.now = 80
    run.end(2)
    run.send(None, "Complete log(s): run.log")
    assert run.lines == [
        "2 jobs to do",
        "[0/2] prune A_2000: started",
        "[1/2] prune A_2000: done in 1:15 min",
        "[1/2] prune B_2000: started",
        "[2/2] prune B_2000: done in 5 s",
        "2 of 2 jobs done in 1:20 min. Snakemake's log: run.log",
    ]


def test_a_terminal_shows_the_whole_and_what_runs() -> None:
    run = Run(Terminal())
    run.send("run_info", stats={"prune": 4, "total": 4})
    try:
        for jobid in range(3):
            run.start(jobid, "prune", variant=f"V{jobid}")
            run.now += 10
            run.end(jobid)
        run.start(3, "prune", variant="V3")
        run.now += 4
        text = [line.plain for line in run.display._block().renderables]
        assert text == ["3 of 4 jobs, 34 s, about 6 s left", "  prune V3  4 s"]
    finally:
        run.display.close()
    assert "started" not in run.stream.getvalue()


def test_a_failed_job_shows_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.write_text("".join(f"line {n}\n" for n in range(50)) + "bar 1\rbar 2\rbar 3\n[red]the reason\n")
    run = Run(io.StringIO())
    run.send("run_info", stats={"prune": 1, "total": 1})
    run.start(1, "prune", variant="A_2000")
    run.now = 3
    wall = "CalledProcessError in file prune.smk, line 4:\nCommand 'set -euo pipefail; python' returned non-zero"
    run.send("error", wall, logging.ERROR, exception="RuleException")
    run.send("job_error", "Error in rule prune", logging.ERROR, jobid=1, log=[str(log)], aux={})
    run.send(None, "Exiting because a job execution failed. Look below for error messages", logging.ERROR)
    run.send(None, "Complete log(s): run.log")
    text = run.stream.getvalue()
    assert run.lines[2] == "prune A_2000 failed after 3 s" and str(log) in run.lines[3]
    assert [line.strip() for line in run.lines[4:-1]][-3:] == ["line 49", "bar 3", "[red]the reason"]
    assert len(run.lines) == 4 + LAST_LINES + 1
    assert "pipefail" not in text and "\r" not in text and "\x1b" not in text
    assert run.lines[-1].startswith("0 of 1 jobs done in 3 s, 1 failed: prune A_2000.")


def test_an_interrupted_run_blames_no_job() -> None:
    run = Run(io.StringIO())
    run.send("run_info", stats={"prune": 2, "total": 2})
    run.start(1, "prune", variant="A_2000")
    run.send(None, "Terminating processes on user request, this might take some time.")
    run.send("job_error", "Error in rule prune", logging.ERROR, jobid=1, log=[], aux={})
    run.send(None, "Complete log(s): run.log")
    assert run.lines[2:] == [
        "Stopping ...",
        "0 of 2 jobs done in 0 s, stopped; run the same command again to go on. Snakemake's log: run.log",
    ]


def test_other_errors_and_messages_are_not_swallowed() -> None:
    run = Run(io.StringIO())
    run.send("error", "MissingOutputException in rule x", logging.ERROR, exception="MissingOutputException")
    run.send(None, "Creating conda environment envs/run.yaml...")
    run.send(None, "Select jobs to execute...")
    run.send("resources_info", "Provided cores: 2")
    assert run.lines == ["MissingOutputException in rule x", "Creating conda environment envs/run.yaml..."]


def test_a_run_with_nothing_to_do_says_so_and_shows_results() -> None:
    run = Run(io.StringIO())
    run.send(None, "Nothing to be done (all requested files are present and up to date).")
    assert run.lines == ["Nothing to do: all results are there and up to date."] and run.told == 1


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    run = Run(Terminal())
    run.send("run_info", stats={"total": 1})
    assert run.stream.getvalue() == "1 jobs to do\n"


def test_time_left() -> None:
    # two rules of 10 s and 30 s, 40 s of work in 20 s: two jobs side by side
    done = {"a": [10.0, 10.0], "b": [30.0]}
    # 2 × 10 + 1 × 30 to do, 6 s of which ran: 44 s of work, by (50 + 6) / 28 = 2 at once
    assert seconds_left({"a": 2, "b": 1}, done, [("a", 6.0)], 28.0) == pytest.approx(22.0)
    # a rule that never ran takes the mean of all, 50 / 3
    assert seconds_left({"c": 3}, done, [], 50.0) == pytest.approx(50.0)
    # a job that takes longer than others did counts as nearly done, not as less than nothing
    assert seconds_left({"a": 1}, done, [("a", 99.0)], 149.0) == 0
    assert seconds_left({"a": 1}, {"a": [1.0, 1.0]}, [], 5.0) is None


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1:00 min"), (3600, "1:00 h")])
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text

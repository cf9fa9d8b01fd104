"""The terminal output of a run: progress, running jobs, and the reason for a failure.

A terminal shows a block of lines that is redrawn in place. A log file gets one line for the start and one for the end
of each job, without control characters. Snakemake's own log file keeps the whole text.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

MOST_RUNNING = 8
"""Largest number of running jobs shown by name; the others are counted."""
LAST_LINES = 12
"""Lines shown of a failed job's log."""
_ENOUGH = 3
"""Finished jobs needed to estimate the time left."""
_CHATTER = (
    "Activating conda env",
    "Assuming unrestricted shared filesystem",
    "At least one job did not complete",
    "Building DAG of jobs",
    "Conda environments: ignored",
    "Elapsed time",
    "Execute ",
    "Exiting because a job execution failed",
    "Group jobs: inactive",
    "Provided ",
    "Removing output files of failed job",
    "Rules claiming more threads",
    "Select jobs to execute",
    "Shutting down",
    "Singularity containers: ignored",
    "Using shell",
    "WorkflowError:\nAt least one job did not complete",
)
"""Beginnings of messages left out: they say nothing about the run, or a job's own lines say it better."""
_LOG_FILE = "Complete log(s): "
_NOTHING_TO_DO = "Nothing to be done"
_INTERRUPTED = "Terminating processes on user request"


@dataclass(frozen=True)
class Job:
    """A started job."""

    rule: str
    wildcards: str
    """Values of the wildcards, such as a variant's name; empty without wildcards."""
    started: float

    @property
    def name(self) -> str:
        return f"{self.rule} {self.wildcards}".rstrip()


def duration_text(seconds: float) -> str:
    """A duration for people to read.

    >>> duration_text(9.4), duration_text(75), duration_text(3725)
    ('9 s', '1:15 min', '1:02 h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"


def seconds_left(
    left: Mapping[str, int], done: Mapping[str, Sequence[float]], running: Sequence[tuple[str, float]], elapsed: float
) -> float | None:
    """Estimate the seconds until a run ends.

    Assumes that jobs take as long as earlier jobs of their rule, and that as many run side by side.

    Args:
        left: unfinished jobs of each rule, running jobs included.
        done: seconds of each finished job by rule; a rule without finished jobs gets the mean of all rules.
        running: rule and seconds so far of each running job.
        elapsed: seconds since the run began.

    Returns:
        Seconds, or None before three jobs are done.
    """
    every = [seconds for of_rule in done.values() for seconds in of_rule]
    if len(every) < _ENOUGH or elapsed <= 0:
        return None
    overall = sum(every) / len(every)
    mean = {rule: sum(of_rule) / len(of_rule) for rule, of_rule in done.items() if of_rule}
    work = sum(count * mean.get(rule, overall) for rule, count in left.items())
    work -= sum(min(seconds, mean.get(rule, overall)) for rule, seconds in running)
    side_by_side = max((sum(every) + sum(seconds for _, seconds in running)) / elapsed, 1.0)
    return work / side_by_side


class Display(logging.Handler):
    """Log handler that shows Snakemake's events: redrawn in place on a terminal, as plain lines elsewhere."""

    def __init__(
        self,
        stream: TextIO,
        *,
        nothing_to_do: Callable[[], None],
        colour: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Show events on ``stream``.

        Args:
            stream: the terminal, or a file.
            nothing_to_do: called after the message that all results are up to date.
            colour: whether a terminal may show colours.
            clock: seconds since any fixed moment.
        """
        super().__init__()
        self.lively = stream.isatty() and os.environ.get("TERM") != "dumb"
        self.console = Console(
            file=stream,
            force_terminal=self.lively,
            no_color=None if colour else True,
            soft_wrap=not self.lively,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._live: Live | None = None
        self._nothing_to_do = nothing_to_do
        self._clock = clock
        self._began = clock()
        self._left: Counter[str] = Counter()
        self._total = self._done = 0
        self._failed: list[str] = []
        self._interrupted = False
        self._running: dict[int, Job] = {}
        self._seconds: dict[str, list[float]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        handle = getattr(self, f"_on_{event}", None) if event else self._on_message
        try:
            if handle:
                handle(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        self._stop()
        super().close()

    # --- events, by Snakemake's names ----------------------------------------------------------------------

    def _on_run_info(self, record: Any) -> None:
        self._left = Counter({rule: count for rule, count in record.stats.items() if rule != "total"})
        self._total = record.stats["total"]
        self._began = self._clock()
        if self.lively:
            self._live = Live(
                console=self.console, get_renderable=self._block, refresh_per_second=4, transient=True, screen=False
            )
            self._live.start()
        else:
            self._say(f"{self._total} jobs to do")

    def _on_job_info(self, record: Any) -> None:
        job = Job(record.rule_name, " ".join(map(str, record.wildcards.values())), self._clock())
        self._running[record.jobid] = job
        if not self.lively:
            self._say(f"{self._count()} {job.name}: started")

    def _on_job_finished(self, record: Any) -> None:
        job = self._running.pop(record.job_id, None)
        if job is None:
            return
        seconds = self._clock() - job.started
        self._done += 1
        self._left[job.rule] -= 1
        self._seconds.setdefault(job.rule, []).append(seconds)
        if not self.lively:
            self._say(f"{self._count()} {job.name}: done in {duration_text(seconds)}")

    def _on_progress(self, record: Any) -> None:
        self._total = max(self._total, record.total)
        if record.done >= record.total:
            self._stop()

    def _on_job_error(self, record: Any) -> None:
        job = self._running.pop(record.jobid, None)
        if job is None or self._interrupted:
            return
        self._failed.append(job.name)
        after = duration_text(self._clock() - job.started)
        self._say(f"{job.name} failed after {after}", "bold red")
        for log in record.log:
            self._show_log(Path(log))
        for key, value in record.aux.items():
            self._say(f"  {key}: {value}")

    def _on_group_error(self, record: Any) -> None:
        # the cluster's own logs; an error for each job of the group follows
        for log in record.aux_logs:
            self._show_log(Path(log))

    def _on_error(self, record: Any) -> None:
        # the shell's message about a failed script; the job's own error follows
        if record.exception == "RuleException" and "CalledProcessError" in record.getMessage():
            return
        self._on_message(record)

    def _on_message(self, record: logging.LogRecord) -> None:
        message = record.getMessage().strip()
        if message.startswith(_LOG_FILE):
            self._end(message.removeprefix(_LOG_FILE))
        elif message.startswith(_INTERRUPTED):
            self._interrupted = True
            self._stop()
            self._say("Stopping ...")
        elif message.startswith(_NOTHING_TO_DO):
            self._say("Nothing to do: all results are there and up to date.")
            self._nothing_to_do()
        elif message and message != "None" and not message.startswith(_CHATTER):
            style = {logging.WARNING: "yellow", logging.ERROR: "red"}.get(record.levelno, "")
            self._say(message, style)

    # --- output --------------------------------------------------------------------------------------------

    def _say(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style), soft_wrap=True)

    def _count(self) -> str:
        width = len(str(self._total))
        return f"[{self._done:{width}}/{self._total}]"

    def _show_log(self, log: Path) -> None:
        """Show the end of a job's log, indented. A bar redrawn in place shows in its last state."""
        if not log.is_file():
            return
        text = log.read_bytes().decode("utf-8", errors="replace")
        lines = [shown for line in text.split("\n") if (shown := line.rstrip("\r").rpartition("\r")[2].rstrip())]
        self._say(f"  {log}{' ends' if len(lines) > LAST_LINES else ''}:")
        for line in lines[-LAST_LINES:] or ["(nothing was written)"]:
            self._say(f"    {line}")

    def _end(self, log: str) -> None:
        self._stop()
        took = duration_text(self._clock() - self._began)
        told = f"{self._done} of {self._total} jobs done in {took}"
        if self._failed:
            told += f", {len(self._failed)} failed: {', '.join(self._failed)}"
        elif self._done < self._total:
            told += ", stopped; run the same command again to go on"
        self._say(f"{told}. Snakemake's log: {os.path.relpath(log)}")

    def _stop(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def _block(self) -> Group:
        """The block that a terminal redraws: a line for the run, and one for each running job."""
        now = self._clock()
        running = sorted(self._running.copy().values(), key=lambda job: job.started)
        elapsed = now - self._began
        line = f"{self._done} of {self._total} jobs, {duration_text(elapsed)}"
        left = seconds_left(
            self._left.copy(),
            {rule: list(seconds) for rule, seconds in self._seconds.copy().items()},
            [(job.rule, now - job.started) for job in running],
            elapsed,
        )
        if left is not None:
            line += f", about {duration_text(left)} left"
        if self._failed:
            line += f", {len(self._failed)} failed"
        lines = [Text(line, "bold", no_wrap=True, overflow="ellipsis")]
        for job in running[:MOST_RUNNING]:
            shown = f"  {job.name}  {duration_text(now - job.started)}"
            lines.append(Text(shown, no_wrap=True, overflow="ellipsis"))
        if len(running) > MOST_RUNNING:
            lines.append(Text(f"  and {len(running) - MOST_RUNNING} more"))
        return Group(*lines)

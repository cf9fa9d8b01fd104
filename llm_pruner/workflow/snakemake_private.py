"""Undocumented parts of Snakemake that the rules need, checked on 9.27.1. Look here first after an update."""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TextIO

_WRITING = ("execute", "unlock", "cleanup_metadata", "cleanup_shadow", "delete_output")
"""Methods of a workflow that may write into the folder of the run."""
_READ = ("metadata", "incomplete", "conda", "singularity")
"""Folders in ``.snakemake`` that a dry run reads; in others it writes."""


def cores(workflow: Any) -> int:
    """Cores of this run; 1 on a cluster, where the profile sets the cores of each job."""
    return workflow.global_resources["_cores"].value or 1


def on_cluster(workflow: Any) -> bool:
    """Whether the run submits its jobs to a cluster: such a run limits jobs, a local run limits cores."""
    return workflow.global_resources["_nodes"].value is not None


def gpu_limit(workflow: Any) -> int | None:
    """GPUs that a run may hold at once: the profile's resource ``gpu``, or None if the profile sets no limit."""
    limit: int | None = workflow.global_resources.get("gpu").value
    return limit


def config_files(workflow: Any) -> list[str]:
    """Paths of this run's configuration files, as the user wrote them."""
    return [str(path) for path in workflow.overwrite_configfiles or workflow.configfiles]


def files_to_read(workflow: Any, usual: str = "config.yaml") -> list[str]:
    """Paths of the configuration files that this run reads, in this order, before the workflow names ``usual``."""
    there = [usual] if Path(usual).is_file() else []
    return [*there, *(path for path in config_files(workflow) if not there or not Path(path).samefile(usual))]


def submit_at_once(workflow: Any) -> None:
    """Switch off Snakemake's limit of submissions per second, which only clusters need.

    The limit makes the scheduler look again every second for each finished job: a sixth of a core after a hundred jobs,
    and a second at the end of every run.
    """
    workflow.scheduler.job_rate_limiter = None


def before_writing(workflow: Any, prepare: Callable[[], object]) -> None:
    """Call ``prepare`` before the workflow writes into its folder: not for a dry run, a lint, a report or a summary.

    What an invocation is for is not known yet while the rules are read.
    """

    def prepared(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            plugin = kwargs.get("executor_plugin")
            only_looks = plugin.common_settings.dryrun_exec if plugin else kwargs.get("dryrun", False)
            if not only_looks:
                prepare()
            return method(*args, **kwargs)

        return call

    for name in _WRITING:
        setattr(workflow, name, prepared(getattr(workflow, name)))


def look_without_writing(state: Path) -> None:
    """Let Snakemake look at a run in a folder that cannot be written.

    Even a dry run makes folders in ``.snakemake``, and a finished run lacks one of them. So Snakemake is given another
    folder for its state, with links to what it reads.

    Args:
        state: Snakemake's folder for the state of the run.
    """
    from snakemake import workflow as running

    room = Path(tempfile.mkdtemp(prefix="llm-pruner-"))
    atexit.register(shutil.rmtree, room, ignore_errors=True)
    for name in _READ:
        if (state / name).is_dir():
            (room / name).symlink_to((state / name).absolute())
    make = running.FilePersistence
    running.FilePersistence = lambda **given: make(**{**given, "path": room})


def rules_of_run(workflow: Any) -> set[str]:
    """Rules with a job in this run, finished or not; known once the run has started."""
    return {job.rule.name for job in workflow.dag.jobs}


def replace_terminal_output(workflow: Any, make: Callable[[TextIO], logging.Handler]) -> None:
    """Replace Snakemake's handler for the terminal; its log file stays as it is.

    Nothing changes for a dry run, with a logger plugin, or if the user asked for more or less detail than usual.
    """
    from snakemake.logging import logger

    asked = workflow.output_settings
    if asked.dryrun or asked.quiet or asked.verbose or asked.printshellcmds or asked.debug_dag:
        return
    for handler in [handler for handler in logger.handlers if handler.name == "DefaultStreamHandler"]:
        logger.removeHandler(handler)
        logger.addHandler(make(handler.stream))


def shows_results(workflow: Any) -> bool:
    """Whether a run may print its results at the end: not if the user asked for quiet."""
    return not workflow.output_settings.quiet

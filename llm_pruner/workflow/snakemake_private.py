"""Undocumented parts of Snakemake that the rules need. Checked on 9.27.1; look here first after an update."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TextIO


def cores(workflow: Any) -> int:
    """Cores of this run; 1 on a cluster, where a run has none of its own and the profile says."""
    return workflow.global_resources["_cores"].value or 1


def on_cluster(workflow: Any) -> bool:
    """Whether jobs are submitted elsewhere: such a run limits jobs, one on this machine limits cores."""
    return workflow.global_resources["_nodes"].value is not None


def gpu_limit(workflow: Any) -> int | None:
    """GPUs that a run may hold at once, the resource ``gpu`` of the profile; None without one."""
    limit: int | None = workflow.global_resources.get("gpu").value
    return limit


def config_files(workflow: Any) -> list[str]:
    """Configuration files of this run, as they were named."""
    return [str(path) for path in workflow.overwrite_configfiles or workflow.configfiles]


def submit_at_once(workflow: Any) -> None:
    """Switch off the limit of submissions per second, which only a queue needs.

    With it, the scheduler looks again every second for each job that has ever finished: a sixth of a core after a
    hundred jobs, and a second at the end of every run.
    """
    workflow.scheduler.job_rate_limiter = None


def rules_of_run(workflow: Any) -> set[str]:
    """Rules of which this run has a job, done or to do; known once the run has started."""
    return {job.rule.name for job in workflow.dag.jobs}


def replace_terminal_output(workflow: Any, make: Callable[[TextIO], logging.Handler]) -> None:
    """Let another handler write what Snakemake's own would write to the terminal; its log file stays as it is.

    Nothing changes for a dry run, with a logger plugin, and where other detail than usual was asked for.
    """
    from snakemake.logging import logger

    asked = workflow.output_settings
    if asked.dryrun or asked.quiet or asked.verbose or asked.printshellcmds or asked.debug_dag:
        return
    for handler in [handler for handler in logger.handlers if handler.name == "DefaultStreamHandler"]:
        logger.removeHandler(handler)
        logger.addHandler(make(handler.stream))


def shows_results(workflow: Any) -> bool:
    """Whether results may be written to the terminal after a run: not where quiet was asked for."""
    return not workflow.output_settings.quiet

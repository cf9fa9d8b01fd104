"""Nothing goes: the base model under a variant's name, as links."""

from __future__ import annotations

from llm_pruner.mechanisms.job import Job, Outcome
from llm_pruner.models.checkpoint import link_folder
from llm_pruner.system.files import staged_directory


def prune(job: Job) -> Outcome:
    with staged_directory(job.model) as folder:
        link_folder(job.base, folder)
    return Outcome(0.0)

"""Jobs that remove nothing: they link the base model under a variant's name."""

from __future__ import annotations

from llm_pruner.mechanisms.job import Job, Outcome
from llm_pruner.models.checkpoint import link_folder
from llm_pruner.system.files import staged_directory


def prune(job: Job) -> Outcome:
    """Link the files of the base model into the variant's folder."""
    with staged_directory(job.model, inputs=[job.base]) as folder:
        link_folder(job.base, folder)
    return Outcome(0.0)

"""Whole key-value groups go with their query heads, and MLP channels, by a plan."""

from __future__ import annotations

from llm_pruner.mechanisms.job import Job, Outcome
from llm_pruner.mechanisms.width.options import WidthOptions
from llm_pruner.mechanisms.width.plan import plan_width
from llm_pruner.models.architecture import read_architecture
from llm_pruner.surgery.cut import cut
from llm_pruner.system.errors import PlanError

NOTEWORTHY_MISS = 0.005
"""A share of all parameters."""


def prune(job: Job) -> Outcome:
    """Remove the lowest-scored groups and channels until the asked share of all parameters is gone.

    Raises:
        PlanError: if the ratio leaves nothing or the scores do not fit the model.
    """
    architecture = read_architecture(job.base)
    try:
        plan = plan_width(architecture, job.variant, job.scores, job.importance, job.split)
    except PlanError as error:
        raise PlanError(f"{job.variant.name}: {error}") from None
    cut(job.base, plan, job.model, progress=job.runtime.progress)
    reached = plan.removed_parameters(architecture) / architecture.total_parameters
    notes = []
    if abs(reached - job.variant.amount) > NOTEWORTHY_MISS:
        notes.append(f"{reached:.2%} is the nearest to {job.variant.amount:.2%} that whole units and the options allow")
    shapes = architecture.layers
    if all(len(layer.groups) == shapes[layer.index].key_value_groups for layer in plan.layers):
        why = "no smaller number of groups fits the options and the target"
        sharing = WidthOptions(**job.variant.options).sharing
        if sharing.ranks_units:
            why = "every unit that went scores less" + " per parameter" * sharing.per_parameter
        notes.append(f"attention is left whole: {why}")
    return Outcome(reached, plan, notes)

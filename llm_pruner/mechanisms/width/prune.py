"""Pruning jobs that remove whole key-value groups with their query heads, and MLP channels, by a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.mechanisms.job import Job, Outcome
from llm_pruner.mechanisms.width.options import WidthOptions
from llm_pruner.mechanisms.width.plan import before_cut, plan_width
from llm_pruner.models.architecture import read_architecture
from llm_pruner.models.layout import cut_of, kept_indices, segment_sizes
from llm_pruner.repairs.base import Removed
from llm_pruner.surgery.cut import cut
from llm_pruner.system.errors import PlanError
from llm_pruner.system.files import scratch_directory

if TYPE_CHECKING:
    import torch

    from llm_pruner.models.architecture import Architecture
    from llm_pruner.planning.plan import Plan

NOTEWORTHY_MISS = 0.005
"""Smallest miss of the amount that the record notes, as a share of all parameters."""


def prune(job: Job) -> Outcome:
    """Remove the groups and channels with the lowest scores, until the model is smaller by the variant's amount.

    Raises:
        PlanError: if the options do not allow the amount, the scores do not fit the model, or a repair has too few
            samples.
        CheckpointError: if a repair finds inputs that are not finite.
    """
    architecture, options = read_architecture(job.base), WidthOptions(**job.variant.options)
    try:
        whole = before_cut(architecture, options)
        plan = plan_width(architecture, job.variant, job.scores, job.importance, job.split)
    except PlanError as error:
        raise PlanError(f"{job.variant.name}: {error}") from None
    repair = None
    if job.variant.repaired:
        with scratch_directory(job.model) as scratch:
            repair = job.repair(scratch / "repaired", columns_gone(architecture, plan))
            cut(scratch / "repaired", plan, job.model, progress=job.runtime.progress)
    else:
        cut(job.base, plan, job.model, progress=job.runtime.progress)
    before, left = architecture.total_parameters, whole.total_parameters - plan.removed_parameters(whole)
    reached = (before - left) / before
    notes = []
    if abs(reached - job.variant.amount) > NOTEWORTHY_MISS:
        notes.append(f"{reached:.2%} is the nearest to {job.variant.amount:.2%} that whole units and the options allow")
    shapes = architecture.layers
    if all(len(layer.groups) == shapes[layer.index].key_value_groups for layer in plan.layers):
        why = "no smaller number of groups fits the options and the target"
        sharing = options.sharing
        if sharing.ranks_units:
            why = "every removed unit scores lower" + " per parameter" * sharing.per_parameter
        notes.append(f"attention stays whole: {why}")
    if repair:
        notes.append(repair.note())
    return Outcome(reached, plan, notes, repair=repair)


def columns_gone(architecture: Architecture, plan: Plan) -> Removed:
    """Columns that a plan removes from the linear layers that write the residual stream.

    Returns:
        A function from a layer's index and a linear name to bool [in_features], True where a column is removed; None
        for a linear layer that loses no column.
    """
    import torch

    def removed(index: int, linear: str) -> torch.Tensor | None:
        cut, shape, layer = cut_of(linear), architecture.layers[index], plan.layers[index]
        if cut is None or cut.axis == 0:
            return None
        widths = {"heads_per_group": shape.heads_per_group, "head_dim": architecture.head_dim}
        sizes = segment_sizes(cut, shape.key_value_groups, shape.channels, **widths)
        gone = torch.ones(sum(sizes), dtype=torch.bool)
        gone[kept_indices(cut, layer.groups, layer.channels, sizes=sizes, **widths)] = False
        return gone if gone.any() else None

    return removed

"""Pruning jobs that remove whole layers, or their attention or MLP blocks, selected by scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.mechanisms.depth.check import check, depth_plan, nearest_count
from llm_pruner.mechanisms.depth.options import DROPS, DepthOptions
from llm_pruner.mechanisms.depth.records import LayerScoresFile
from llm_pruner.mechanisms.job import Job, Outcome
from llm_pruner.methods.base import LayerScoreMethod
from llm_pruner.models.architecture import read_architecture
from llm_pruner.models.layout import layer_prefix
from llm_pruner.repairs.base import Removed
from llm_pruner.surgery.cut import cut
from llm_pruner.system.errors import DataError, PlanError, listed
from llm_pruner.system.files import scratch_directory

if TYPE_CHECKING:
    import torch

    from llm_pruner.models.architecture import Architecture
    from llm_pruner.planning.plan import Plan


def prune(job: Job) -> Outcome:
    """Remove the layers, or blocks, that the method selects: a number of them, or the number nearest to a share.

    Raises:
        DataError: if the scores lack what the method selects by.
        PlanError: if no layer would stay, or the scores or the options do not allow the amount.
    """
    assert isinstance(job.scores, LayerScoresFile)
    method = job.variant.build_method()
    assert isinstance(method, LayerScoreMethod)
    architecture = read_architecture(job.base)
    options = DepthOptions(**job.variant.options)
    entries = [entry.model_dump() for entry in job.scores.layers]
    candidates = [entries[index] for index in options.removable(len(entries))]

    def select(count: int) -> list[int]:
        return method.select(candidates, count)

    wrong = [
        f"layers[{entry['index']}].{problem}"
        for entry in entries
        for problem in method.problems_with(entry, architecture.num_layers)
    ]
    if wrong:
        way_out = "delete the file and run again to make it anew"
        raise DataError(listed(f"{job.variant.name}: the scores '{job.scores.id}'", wrong, way_out))
    try:
        check(job.variant, architecture)
        if options.of == "layers":
            count = int(job.variant.amount)
        else:
            count = nearest_count(architecture, options, job.variant.amount, select)
        removed = select(count)
    except PlanError as error:
        raise PlanError(f"{job.variant.name}: {error}") from None
    plan = depth_plan(architecture, options.drop, removed)
    repair = None
    if job.variant.repaired:
        with scratch_directory(job.model) as scratch:
            repair = job.repair(scratch / "repaired", layers_gone(architecture, plan))
            cut(scratch / "repaired", plan, job.model, progress=job.runtime.progress)
    else:
        cut(job.base, plan, job.model, progress=job.runtime.progress)
    notes = method.notes([entries[index] for index in sorted(removed)])
    if repair:
        notes.append(repair.note())
    if options.of == "layers":
        return Outcome(len(removed), plan, notes, repair=repair)
    share = plan.removed_parameters(architecture) / architecture.total_parameters
    notes.insert(0, f"{len(removed)} {DROPS[options.drop]}, the nearest number.")
    return Outcome(share, plan, notes, repair=repair)


def layers_gone(architecture: Architecture, plan: Plan) -> Removed:
    """What a plan takes from the linear layers: all columns of those in removed layers."""
    import torch

    kept = set(plan.kept_layers)

    def removed(index: int, linear: str) -> torch.Tensor | None:
        if index in kept:
            return None
        return torch.ones(architecture.tensors[f"{layer_prefix(index)}{linear}.weight"].shape[1], dtype=torch.bool)

    return removed

"""Pruning jobs that remove whole layers, or their attention or MLP blocks, selected by scores."""

from __future__ import annotations

from llm_pruner.mechanisms.depth.check import check, depth_plan, nearest_count
from llm_pruner.mechanisms.depth.options import DROPS, DepthOptions
from llm_pruner.mechanisms.depth.records import LayerScoresFile
from llm_pruner.mechanisms.job import Job, Outcome
from llm_pruner.methods.base import LayerScoreMethod
from llm_pruner.models.architecture import read_architecture
from llm_pruner.surgery.cut import cut
from llm_pruner.system.errors import PlanError


def prune(job: Job) -> Outcome:
    """Remove the layers, or blocks, that the method selects: a number of them, or the number nearest to a share.

    Raises:
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
    cut(job.base, plan, job.model, progress=job.runtime.progress)
    notes = method.notes([entries[index] for index in sorted(removed)])
    if options.of == "layers":
        return Outcome(len(removed), plan, notes)
    share = plan.removed_parameters(architecture) / architecture.total_parameters
    return Outcome(share, plan, [f"{len(removed)} {DROPS[options.drop]}, the nearest number.", *notes])

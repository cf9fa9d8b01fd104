"""Whole layers go, or their attention or MLP blocks: those that the method selects by its scores."""

from __future__ import annotations

from llm_pruner.mechanisms.depth.check import check
from llm_pruner.mechanisms.depth.options import DepthOptions
from llm_pruner.mechanisms.job import Job, Outcome
from llm_pruner.methods.base import LayerScoreMethod
from llm_pruner.models.architecture import read_architecture
from llm_pruner.planning.plan import Plan
from llm_pruner.surgery.cut import cut
from llm_pruner.system.errors import PlanError


def prune(job: Job) -> Outcome:
    """Remove the ``amount`` layers, or blocks of so many layers, that the method selects.

    Raises:
        PlanError: if that would leave no layer, or the scores or the options do not allow so many.
    """
    assert job.scores is not None
    method = job.variant.build_method()
    assert isinstance(method, LayerScoreMethod)
    layers = range(len(job.scores))
    options = DepthOptions(**job.variant.options)
    try:
        check(job.variant, len(layers))
        removable = options.removable(len(layers))
        removed = method.select([job.scores[index] for index in removable], int(job.variant.amount))
    except PlanError as error:
        raise PlanError(f"{job.variant.name}: {error}") from None
    architecture = read_architecture(job.base)
    if options.drop == "layer":
        plan = Plan.keep_layers(architecture, set(layers) - set(removed))
    else:
        plan = Plan.drop_blocks(architecture, options.drop, removed)
    cut(job.base, plan, job.model, progress=job.runtime.progress)
    return Outcome(len(removed), plan, method.notes([job.scores[index] for index in sorted(removed)]))

"""Whole key-value groups go with their query heads, and MLP channels: the model gets really smaller.

A method is a saliency of single weights. Here it is summed over the rows and columns that must go together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.families.job import Job, Outcome
from llm_pruner.families.options import SEARCH, WidthOptions
from llm_pruner.methods.base import Method, SaliencyMethod
from llm_pruner.models.architecture import (
    Architecture,
    LayerShape,
    read_architecture,
)
from llm_pruner.models.layout import block_of_linear, cut_of, linears_among, segment_sizes
from llm_pruner.planning.allocation import GroupScores, allocate
from llm_pruner.planning.plan import Plan
from llm_pruner.scoring.evidence import gather
from llm_pruner.surgery.cut import cut
from llm_pruner.system.errors import PlanError

if TYPE_CHECKING:
    import torch

    from llm_pruner.variants.variant import Variant


NOTEWORTHY_MISS = 0.005
"""A share of all parameters."""


def score(
    method: Method,
    base: Path,
    input_ids: torch.Tensor | None,
    *,
    device: str,
    batch_size: int,
    progress: bool,
) -> dict[str, Any]:
    """``layers``: group scores, ``{"index": 0, "attention": [a score a group], "mlp": [a score a channel]}``."""
    assert isinstance(method, SaliencyMethod)
    architecture = read_architecture(base)
    architecture.check_blocks()
    layers = []
    for layer in gather(
        method.evidence,
        base,
        input_ids,
        device=device,
        batch_size=batch_size,
        progress=progress,
        description=f"{method.name} layers",
        checkpointing=method.checkpointing,
    ):
        saliencies = {
            evidence.linear: method.summed(weight, evidence, cut_along(evidence.linear))
            for weight, evidence in layer.linears()
        }
        shape = architecture.layers[layer.index]
        attention = sum_over_key_value_groups(saliencies, shape, architecture.head_dim)
        mlp = sum_over_channels(saliencies, shape)
        layers.append({"index": layer.index, "attention": _rounded(attention), "mlp": _rounded(mlp)})
    return {"layers": sorted(layers, key=lambda layer: layer["index"])}


def prune(job: Job) -> Outcome:
    """Remove the lowest-scored groups and channels until the asked share of all parameters is gone.

    Raises:
        PlanError: if the ratio leaves nothing or the scores do not fit the model.
    """
    assert job.scores is not None
    architecture = read_architecture(job.base)
    try:
        plan = plan_width(architecture, job.variant, job.scores, job.importance, job.split)
    except PlanError as error:
        raise PlanError(f"{job.variant.name}: {error}") from None
    cut(job.base, plan, job.model, progress=job.progress)
    reached = plan.removed_parameters(architecture) / architecture.total_parameters
    notes = []
    if abs(reached - job.variant.amount) > NOTEWORTHY_MISS:
        notes.append(f"{reached:.2%} is the nearest to {job.variant.amount:.2%} that whole units and the options allow")
    shapes = architecture.layers
    if all(len(layer.groups) == shapes[layer.index].key_value_groups for layer in plan.layers):
        other = "every unit that went scores less per parameter"
        fits = "no smaller number of groups fits the options and the target"
        ranked = WidthOptions(**job.variant.options).allocation == "global"
        notes.append(f"attention is left whole: {other if ranked else fits}")
    return Outcome(reached, plan, notes)


def plan_width(
    architecture: Architecture,
    variant: Variant,
    scores: list[dict[str, Any]],
    importance: list[dict[str, Any]] | None,
    split: str | None = None,
) -> Plan:
    """The plan of a variant, given scores of groups and, where its options ask for it, of layers.

    Args:
        split: attention : MLP shares that a search found, in place of the variant's own.
    """
    options = WidthOptions(**variant.options)
    if options.split == SEARCH:
        options = options.model_copy(update={"split": split})
    return allocate(
        architecture,
        [GroupScores(entry["attention"], entry["mlp"]) for entry in scores],
        variant.amount,
        options,
        [entry["score"] for entry in importance] if importance else None,
    )


def cut_along(linear: str) -> int:
    """The dimension to sum over so that one number remains for each row or column that can be cut."""
    cut = cut_of(linear)
    assert cut
    return 1 - cut.axis


def sum_over_key_value_groups(saliencies: Mapping[str, torch.Tensor], shape: LayerShape, head_dim: int) -> torch.Tensor:
    """Saliency of a layer's key-value groups: of the k and v rows of each, the q rows of its (contiguous) query heads
    and the o columns they feed.

    Args:
        saliencies: by linear name, one number for each row, or each column of ``o_proj``.
        shape: of the layer.

    Returns:
        [groups]
    """
    return _summed(saliencies, "attention", shape, head_dim, shape.key_value_groups)


def sum_over_channels(saliencies: Mapping[str, torch.Tensor], shape: LayerShape) -> torch.Tensor:
    """Saliency of a layer's MLP channels, [channels]: of the gate and up rows and the down column of each."""
    return _summed(saliencies, "mlp", shape, 1, shape.channels)


def _summed(
    saliencies: Mapping[str, torch.Tensor], block: str, shape: LayerShape, head_dim: int, units: int
) -> torch.Tensor:
    import torch

    parts = []
    for name in linears_among({f"{name}.weight" for name in saliencies}):
        cut = cut_of(name)
        if cut and block_of_linear(name) == block:
            sizes = segment_sizes(
                cut,
                shape.key_value_groups,
                shape.channels,
                heads_per_group=shape.heads_per_group,
                head_dim=head_dim,
            )
            parts += [segment.view(units, -1).sum(dim=1) for segment in saliencies[name].split(sizes)]
    return torch.stack(parts).sum(dim=0)


def _rounded(scores: torch.Tensor) -> list[float]:
    """Nine significant digits: all that float32 holds."""
    return [float(f"{value:.9g}") for value in scores.tolist()]

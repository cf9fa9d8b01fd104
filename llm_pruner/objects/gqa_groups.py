"""Grouped-query attention of one decoder layer in memory: score the key-value groups, select, and cut in place.

Scores are the method ``GQA``'s, and cuts are width pruning's. A group is a key-value head with the query heads that
share it. Query heads of a group are contiguous: group g has query heads g·n … g·n+n−1.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llm_pruner.mechanisms.width.units import cut_along, sum_over_key_value_groups
from llm_pruner.methods.gqa import GQA
from llm_pruner.models.architecture import LayerShape
from llm_pruner.models.layout import ATTENTION, ATTENTION_LINEARS
from llm_pruner.planning.budget import keep_highest
from llm_pruner.planning.plan import LayerPlan
from llm_pruner.scoring.evidence import Evidence
from llm_pruner.surgery.cut import slice_parameter
from llm_pruner.system.errors import PlanError, PrunerError

if TYPE_CHECKING:
    import torch


def compute_gqa_group_importance(
    layer: torch.nn.Module, head_dim: int | None = None, gqa_ratio: int | None = None
) -> torch.Tensor:
    """First-order Taylor importance of each key-value group: Σ |w·g| over the weights of the group.

    A group's weights are its k and v rows, the q rows of its query heads, and the o columns that read these heads.
    Biases and norms do not count. The measure is LLM-Pruner's (Ma et al., 2023, arXiv:2305.11627).

    Args:
        layer: a decoder layer whose attention weights hold gradients, as after ``loss.backward()``.
        head_dim: dimensions of a head; by default from ``layer.self_attn``.
        gqa_ratio: query heads in each group; by default from ``layer.self_attn``.

    Returns:
        float32 [num_kv_heads], on the device of the weights; higher is more important.

    Raises:
        PrunerError: if a projection has no gradient.
        PlanError: if ``head_dim`` or ``gqa_ratio`` do not fit the layer.
    """
    shape, head_dim = _attention_shape(layer, head_dim, gqa_ratio)
    method = GQA()
    saliencies = {}
    for linear in ATTENTION_LINEARS:
        weight = layer.get_parameter(f"{linear}.weight")
        if weight.grad is None:
            raise PrunerError(f"{linear}.weight has no gradient; set requires_grad and run loss.backward() first")
        # the index only labels the evidence
        evidence = Evidence(0, linear, gradient=weight.grad)
        saliencies[linear] = method.summed(weight.detach(), evidence, cut_along(linear))
    return sum_over_key_value_groups(saliencies, shape, head_dim)


def select_gqa_groups_to_prune(
    group_importance: torch.Tensor | Iterable[float], target_num_kv_heads: int
) -> tuple[list[int], list[int]]:
    """Select the least important key-value groups to remove. From equal groups the last is removed first.

    Args:
        group_importance: [num_kv_heads], higher is more important.
        target_num_kv_heads: number of groups to keep.

    Returns:
        (indices to keep, indices to remove), both ascending.

    Raises:
        PlanError: if the target is not 1 … num_kv_heads, or an importance is not finite.

    >>> select_gqa_groups_to_prune([3.0, 1.0, 2.0], 2)
    ([0, 2], [1])
    """
    scores = [float(score) for score in group_importance]
    if target_num_kv_heads not in range(1, len(scores) + 1):
        raise PlanError(
            f"target_num_kv_heads must be 1 … {len(scores)}, the number of groups, not {target_num_kv_heads}"
        )
    if not all(map(math.isfinite, scores)):
        raise PlanError(f"group importance must be finite, not {scores}")
    keep = list(keep_highest(scores, len(scores) - target_num_kv_heads))
    return keep, [group for group in range(len(scores)) if group not in keep]


def prune_attention_by_gqa_groups(
    layer: torch.nn.Module,
    keep_kv_indices: Iterable[int],
    head_dim: int | None = None,
    gqa_ratio: int | None = None,
) -> tuple[int, int]:
    """Keep the given key-value groups of a layer's attention and cut all others, in place.

    The model computes the same as with zeros in the ``o_proj`` columns of the cut groups, with or without a cache. The
    cut parameters are new and have no gradients, so create the optimizer afterwards. The model's config keeps the old
    numbers of heads; ``llm_pruner.prune`` or ``cut`` write a model folder that loads anywhere.

    Args:
        layer: a decoder layer.
        keep_kv_indices: key-value groups to keep, ascending.
        head_dim: dimensions of a head; by default from ``layer.self_attn``.
        gqa_ratio: query heads in each group, which does not change; by default from ``layer.self_attn``.

    Returns:
        (query heads, key-value heads) of the cut layer.

    Raises:
        PlanError: if an index is not a group of the layer, or ``head_dim`` or ``gqa_ratio`` do not fit the layer.
    """
    from torch import nn

    shape, head_dim = _attention_shape(layer, head_dim, gqa_ratio)
    keep = tuple(map(operator.index, keep_kv_indices))
    if not keep or list(keep) != sorted(set(keep)) or keep[0] < 0 or keep[-1] >= shape.key_value_groups:
        raise PlanError(
            f"kept key-value groups must be ascending and within 0 … {shape.key_value_groups - 1}, at least one, "
            f"not {list(keep)}"
        )
    plan = LayerPlan(0, keep, ())
    for name in ATTENTION_LINEARS:
        linear: Any = layer.get_submodule(name)
        for kind, parameter in list(linear.named_parameters()):
            smaller = slice_parameter(f"{name}.{kind}", parameter.data, plan, shape, head_dim)
            setattr(linear, kind, nn.Parameter(smaller, requires_grad=parameter.requires_grad))
        linear.out_features, linear.in_features = linear.weight.shape
    return len(keep) * shape.heads_per_group, len(keep)


def _attention_shape(layer: Any, head_dim: int | None, gqa_ratio: int | None) -> tuple[LayerShape, int]:
    """Widths of the attention (other widths are zero) and head_dim, after a check against the weights."""
    attention = layer.get_submodule(ATTENTION)
    head_dim = _agreed("head_dim", head_dim, getattr(attention, "head_dim", None))
    ratio = _agreed("gqa_ratio", gqa_ratio, getattr(attention, "num_key_value_groups", None))
    *inputs, output = (layer.get_submodule(name).weight.shape for name in ATTENTION_LINEARS)
    queries, keys, values = (rows for rows, _ in inputs)
    columns = output[1]
    if min(head_dim, ratio) < 1 or keys % head_dim or values != keys or not queries == columns == keys * ratio:
        raise PlanError(
            f"head_dim {head_dim} and gqa_ratio {ratio} do not fit attention with {queries} query, {keys} key and "
            f"{values} value rows and {columns} output columns"
        )
    groups = keys // head_dim
    return LayerShape(groups * ratio, groups, 0, 0, 0), head_dim


def _agreed(name: str, given: int | None, own: int | None) -> int:
    if given is not None and own is not None and given != own:
        raise PlanError(f"{name} is {given}, but the layer has {own}; omit {name}")
    value = own if given is None else given
    if value is None:
        raise PlanError(f"the layer has no attribute for {name}; pass {name}")
    return value

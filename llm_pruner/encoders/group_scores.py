"""Scores of a classifier's groups: the attention heads and FFN neurons of all layers.

Groups are numbered layer by layer, first all heads, then all neurons.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from llm_pruner.encoders.architecture import EncoderShape
from llm_pruner.encoders.options import PruningOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Groups:
    """Groups of a classifier, with the block and the number of parameters of each."""

    def __init__(self, shape: EncoderShape) -> None:
        self.shape = shape
        heads, neurons = zip(*shape.layers, strict=True)
        self.sizes = [*heads, *neurons]
        """Groups in each block: first the attention of each layer, then the FFN of each layer."""
        self.heads = sum(heads)
        """Heads of all layers."""
        self.block = torch.repeat_interleave(torch.arange(len(self.sizes)), torch.tensor(self.sizes))
        """int64 [groups]: block of each group."""
        self.parameters = torch.full((sum(self.sizes),), shape.neuron_parameters)
        self.parameters[: self.heads] = shape.head_parameters
        """int64 [groups]: parameters of each group."""

    def ranked_together(self, apart: bool) -> list[torch.Tensor]:
        """Numbers of the groups in each ranking: heads and neurons ``apart``, or all groups in one ranking."""
        every = torch.arange(len(self.block))
        return [every[: self.heads], every[self.heads :]] if apart else [every]

    def split(self, values: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Split ``values`` [groups] by layer, into values of heads and values of neurons."""
        parts = list(values.split(self.sizes))
        return parts[: len(parts) // 2], parts[len(parts) // 2 :]


def group_sums(model: PreTrainedModel, groups: Groups, value: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Sum ``value`` over the parameters of each group.

    The parameters of a head are its rows and biases of query, key and value, and its columns of the output. The
    parameters of a neuron are a row and a bias of the first FFN layer, and a column of the second.

    Args:
        value: maps a parameter tensor to a tensor of the same shape.

    Returns:
        float32 [groups].
    """
    shape, family = groups.shape, groups.shape.family

    def rows(linear: Any) -> torch.Tensor:
        return value(linear.weight).sum(1) + value(linear.bias)

    heads, neurons = [], []
    layer: Any
    for layer in model.get_submodule(family.layers).children():
        inner = sum(rows(layer.get_submodule(name)) for name in family.inputs)
        inner = inner + value(layer.get_submodule(family.output).weight).sum(0)
        heads.append(inner.view(-1, shape.head_dim).sum(1))
        columns = value(layer.get_submodule(family.ffn_output).weight).sum(0)
        neurons.append(rows(layer.get_submodule(family.ffn_input)) + columns)
    return torch.cat([*heads, *neurons]).float().cpu()


def magnitudes(model: PreTrainedModel, groups: Groups) -> torch.Tensor:
    """L2 norm of each group's parameters by the root of their number, so that heads and neurons compare."""
    with torch.no_grad():
        return (group_sums(model, groups, torch.square) / groups.parameters).sqrt()


class GradientWindow:
    """Mean |gradient · weight| over the parameters of each group, for the latest backward passes."""

    def __init__(self, model: PreTrainedModel, groups: Groups, passes: int) -> None:
        self.model, self.groups = model, groups
        self.seen: deque[torch.Tensor] = deque(maxlen=passes)

    def collect(self) -> None:
        """Add a backward pass. Call before gradients are cleared."""

        def saliency(parameter: torch.Tensor) -> torch.Tensor:
            assert parameter.grad is not None
            return (parameter.grad * parameter).abs()

        with torch.no_grad():
            self.seen.append(group_sums(self.model, self.groups, saliency) / self.groups.parameters)

    def mean(self) -> torch.Tensor:
        """Mean over the passes, float32 [groups]; zeros before the first pass."""
        return torch.stack(list(self.seen)).mean(0) if self.seen else torch.zeros(len(self.groups.block))


def normalise(values: torch.Tensor) -> torch.Tensor:
    """Scale linearly, so that the smallest value is 0 and the largest 1; zeros if all values are equal."""
    span = values.max() - values.min()
    return (values - values.min()) / span if span > 0 else torch.zeros_like(values)


def group_scores(
    magnitude: torch.Tensor, gradient: torch.Tensor, groups: Groups, options: PruningOptions
) -> torch.Tensor:
    """Score of each group: lambda_mag · normalise(L2) + lambda_grad · normalise(|gradient · weight|).

    Values are normalised within each ranking.

    Args:
        magnitude, gradient: float32 [groups].

    Returns:
        float32 [groups].
    """
    weights = {
        "l2": (1.0, 0.0),
        "kd_grad": (0.0, 1.0),
        "l2+kd_grad": (options.lambda_mag, options.lambda_grad),
    }[options.importance_mode]
    scores = torch.zeros_like(magnitude)
    for ranked in groups.ranked_together(options.enable_multi_granularity):
        for weight, values in zip(weights, (magnitude, gradient), strict=True):
            scores[ranked] += weight * normalise(values[ranked])
    return scores


def _best_of_blocks(scores: torch.Tensor, groups: Groups, ranked: torch.Tensor) -> set[int]:
    """The group of highest score in each block, among the groups ``ranked``."""
    ascending = ranked[scores[ranked].argsort(stable=True)].tolist()
    return set({int(groups.block[group]): group for group in ascending}.values())


def choose(scores: torch.Tensor, groups: Groups, pruned: list[int], share: float, options: PruningOptions) -> list[int]:
    """Choose the groups to prune, in the order of their pruning.

    While ``share`` rises, pruned groups stay pruned, as a masked group has no gradient. When ``share`` falls, the last
    pruned groups come back first. The best group of each block is never pruned.

    Args:
        scores: float32 [groups].
        pruned: groups pruned so far, in order.
        share: fraction of the final pruned share, from 0 to 1.

    Returns:
        Numbers of the pruned groups, in order.
    """
    gone = list(pruned)
    for ranked, target in zip(groups.ranked_together(options.enable_multi_granularity), options.targets, strict=False):
        members = set(ranked.tolist())
        budget = share * target * int(groups.parameters[ranked].sum()) + 1e-6
        own = [group for group in gone if group in members]
        spent = int(groups.parameters[own].sum()) if own else 0
        while own and spent > budget:
            back = own.pop()
            gone.remove(back)
            spent -= int(groups.parameters[back])
        left = ranked[~torch.isin(ranked, torch.tensor(own, dtype=torch.int64))]
        stays = _best_of_blocks(scores, groups, left)
        for group in left[scores[left].argsort(stable=True)].tolist():
            cost = int(groups.parameters[group])
            if group not in stays and spent + cost <= budget:
                gone.append(group)
                spent += cost
    return gone

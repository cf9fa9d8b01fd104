"""How much each group of a classifier's parameters matters: attention heads and FFN neurons of all layers.

Groups are numbered heads first, layer by layer, then neurons, layer by layer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from llm_pruner.encoders.architecture import Encoder
from llm_pruner.encoders.options import PruningOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Groups:
    """The groups of a classifier: which layer each is in, and how many parameters go with it."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        heads, neurons = zip(*encoder.layers, strict=True)
        self.sizes = [*heads, *neurons]
        """Of the blocks: the attention of every layer, then the FFN of every layer."""
        self.heads = sum(heads)
        self.block = torch.repeat_interleave(torch.arange(len(self.sizes)), torch.tensor(self.sizes))
        """int64 [groups]: the block that each is in."""
        self.parameters = torch.full((sum(self.sizes),), encoder.neuron_parameters)
        self.parameters[: self.heads] = encoder.head_parameters

    def ranked_together(self, apart: bool) -> list[torch.Tensor]:
        """Numbers of the groups that are weighed against each other."""
        every = torch.arange(len(self.block))
        return [every[: self.heads], every[self.heads :]] if apart else [every]

    def split(self, values: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Values of the groups by layer: of heads, and of neurons."""
        parts = list(values.split(self.sizes))
        return parts[: len(parts) // 2], parts[len(parts) // 2 :]


def group_sums(model: PreTrainedModel, groups: Groups, value: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Sum over each group's parameters of ``value``, which gives one number for each element: float32 [groups].

    A head's parameters are its rows of query, key and value with their biases, and its columns of the output; a
    neuron's a row of the first FFN layer with its bias, and a column of the second.
    """
    encoder, family = groups.encoder, groups.encoder.family

    def rows(linear: Any) -> torch.Tensor:
        return value(linear.weight).sum(1) + value(linear.bias)

    heads, neurons = [], []
    layer: Any
    for layer in model.get_submodule(family.layers).children():
        inner = sum(rows(layer.get_submodule(name)) for name in family.inputs)
        inner = inner + value(layer.get_submodule(family.output).weight).sum(0)
        heads.append(inner.view(-1, encoder.head_dim).sum(1))
        columns = value(layer.get_submodule(family.ffn_output).weight).sum(0)
        neurons.append(rows(layer.get_submodule(family.ffn_input)) + columns)
    return torch.cat([*heads, *neurons]).float().cpu()


def magnitudes(model: PreTrainedModel, groups: Groups) -> torch.Tensor:
    """L2 norm of each group's parameters by the root of their number, so that heads and neurons compare."""
    with torch.no_grad():
        return (group_sums(model, groups, torch.square) / groups.parameters).sqrt()


class GradientWindow:
    """|gradient · weight| of the groups over the latest backward passes, by the number of their parameters."""

    def __init__(self, model: PreTrainedModel, groups: Groups, steps: int) -> None:
        self.model, self.groups = model, groups
        self.seen: deque[torch.Tensor] = deque(maxlen=steps)

    def collect(self) -> None:
        """After a backward pass, while gradients are there."""

        def saliency(parameter: torch.Tensor) -> torch.Tensor:
            assert parameter.grad is not None
            return (parameter.grad * parameter).abs()

        with torch.no_grad():
            self.seen.append(group_sums(self.model, self.groups, saliency) / self.groups.parameters)

    def mean(self) -> torch.Tensor:
        """float32 [groups]; zeros before the first pass."""
        return torch.stack(list(self.seen)).mean(0) if self.seen else torch.zeros(len(self.groups.block))


def normalise(values: torch.Tensor) -> torch.Tensor:
    """From 0, the smallest, to 1, the largest; zeros where all are alike."""
    span = values.max() - values.min()
    return (values - values.min()) / span if span > 0 else torch.zeros_like(values)


def importance(
    magnitude: torch.Tensor, gradient: torch.Tensor, groups: Groups, options: PruningOptions
) -> torch.Tensor:
    """lambda_mag · normalise(L2) + lambda_grad · normalise(|gradient · weight|), among those ranked together.

    Args:
        magnitude, gradient: float32 [groups].
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
    """The group of the highest score in every block, among some."""
    ascending = ranked[scores[ranked].argsort(stable=True)].tolist()
    return set({int(groups.block[group]): group for group in ascending}.values())


def choose(scores: torch.Tensor, groups: Groups, pruned: list[int], share: float, options: PruningOptions) -> list[int]:
    """The groups to prune, in the order in which they went.

    What is pruned stays so while the share rises: a masked group has no gradient that could speak for it. Where the
    share falls, those that went last come back. The best group of every block stays.

    Args:
        pruned: those chosen before.
        share: of the final sparsity.
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

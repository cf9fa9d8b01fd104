"""Masks: masked groups of a classifier stay in memory, but write nothing into the residual stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import nn

from llm_pruner.encoders.architecture import Widths
from llm_pruner.encoders.group_scores import Groups

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Masks:
    """While attached, multiplies the output of each head and neuron by 0 or 1."""

    def __init__(self, model: PreTrainedModel, groups: Groups) -> None:
        self.groups = groups
        self.kept = torch.ones(len(groups.block), device=model.device)
        """float32 [groups]: 1 for a kept group, 0 for a masked one."""
        family = groups.shape.family
        self._handles = []
        for index, layer in enumerate(model.get_submodule(family.layers).children()):
            for name, is_head in ((family.output, True), (family.ffn_output, False)):
                linear = layer.get_submodule(name)
                self._handles.append(linear.register_forward_pre_hook(self._hook(index, is_head)))

    def _hook(self, layer: int, is_head: bool) -> Callable[[nn.Module, tuple[torch.Tensor]], tuple[torch.Tensor]]:
        def masked(_module: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            heads, neurons = self.by_layer()
            mask = heads[layer].repeat_interleave(self.groups.shape.head_dim) if is_head else neurons[layer]
            return (inputs[0] * mask,)

        return masked

    def by_layer(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Masks of the heads and of the neurons, each a list by layer."""
        return self.groups.split(self.kept)

    def prune(self, groups: Iterable[int]) -> None:
        """Mask exactly these groups."""
        self.kept = torch.ones_like(self.kept)
        self.kept[list(groups)] = 0

    def widths(self) -> list[Widths]:
        """Number of heads and neurons kept in each layer."""
        return [Widths(len(heads), len(neurons)) for heads, neurons in zip(*self.survivors(), strict=True)]

    def survivors(self) -> tuple[list[list[int]], list[list[int]]]:
        """Numbers of the heads and of the neurons kept, each a list by layer."""
        heads, neurons = ([mask.nonzero().flatten().tolist() for mask in masks] for masks in self.by_layer())
        return heads, neurons

    def detach(self) -> None:
        """Remove the masks from the model."""
        for handle in self._handles:
            handle.remove()

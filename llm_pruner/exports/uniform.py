"""Pad layers of different widths with zeros to one shape, so that any serving engine loads the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.models.architecture import Architecture, read_architecture
from llm_pruner.models.checkpoint import CheckpointWriter, WeightReader, copy_companions, write_config
from llm_pruner.models.layout import ADDED_BIASES, component, cut_of, segment_sizes
from llm_pruner.planning.plan import LayerPlan, Plan
from llm_pruner.surgery.cut import smaller_config
from llm_pruner.system.errors import PlanError
from llm_pruner.system.files import staged_directory
from llm_pruner.system.progress import track

if TYPE_CHECKING:
    import torch


def write_uniform(model: Path, output: Path, *, progress: bool = False) -> dict[str, Any]:
    """Write ``model`` with as many key-value groups and MLP channels in every layer as its widest layers have.

    The added groups and channels follow the existing ones, and all their weights are zero. They add nothing to the
    residual stream, so the logits stay.

    Args:
        model: model folder.
        output: the new folder; it appears only when complete.
        progress: show a progress bar on stderr.

    Returns:
        ``key_value_groups`` and ``channels`` of every layer, and ``parameters``: ``before``, ``after``, ``added``.

    Raises:
        CheckpointError: if ``model`` cannot be read.
        PlanError: if hidden dimensions are sliced, a layer lacks a block, layers have biases that the family lacks or
            different numbers of query heads in a group, or transformers' own class refuses the resulting number of
            heads.
    """
    architecture = read_architecture(model)
    if architecture.config.get("sliced"):
        raise PlanError(f"{model}: its hidden dimensions are sliced, and padding cannot undo slices")
    if added := architecture.config.get(ADDED_BIASES):
        raise PlanError(
            f"{model}: its {' and '.join(added)} have a bias, which transformers' own {architecture.family} has no "
            "place for, whatever the shape; prune with repair: none or another repair instead"
        )
    groups, channels = _widest(architecture)
    every = tuple(
        LayerPlan(index, tuple(range(groups)), tuple(range(channels))) for index in range(architecture.num_layers)
    )
    weights = WeightReader(model)
    with staged_directory(output, inputs=[model]) as folder, CheckpointWriter(folder) as writer:
        for name in track(list(weights.names()), "padding", "tensor", show=progress):
            writer.add(name, pad_parameter(name, weights.tensor(name), architecture, groups, channels))
        write_config(folder, smaller_config(architecture, Plan(architecture.num_layers, every)))
        copy_companions(model, folder)
    before, after = architecture.total_parameters, read_architecture(output).total_parameters
    return {
        "key_value_groups": groups,
        "channels": channels,
        "parameters": {"before": before, "after": after, "added": after - before},
    }


def pad_parameter(
    name: str, tensor: torch.Tensor, architecture: Architecture, groups: int, channels: int
) -> torch.Tensor:
    """Pad a parameter with zeros to ``groups`` and ``channels``."""
    import torch

    index, _ = component(name)
    cut = cut_of(name)
    if index is None or cut is None or cut.axis >= tensor.ndim:
        return tensor
    shape, head_dim = architecture.layers[index], architecture.head_dim
    own, wanted = (
        segment_sizes(cut, *widths, heads_per_group=shape.heads_per_group, head_dim=head_dim)
        for widths in ((shape.key_value_groups, shape.channels), (groups, channels))
    )
    padded = []
    for segment, size in zip(tensor.split(own, dim=cut.axis), wanted, strict=True):
        missing = list(segment.shape)
        missing[cut.axis] = size - missing[cut.axis]
        padded += [segment, segment.new_zeros(missing)]
    return torch.cat(padded, dim=cut.axis)


def _widest(architecture: Architecture) -> tuple[int, int]:
    """Key-value groups and MLP channels of every padded layer."""
    architecture.check_blocks()
    heads = {layer.heads_per_group for layer in architecture.layers}
    if len(heads) > 1:
        raise PlanError(f"{architecture.folder}: groups of {sorted(heads)} query heads cannot have one shape")
    groups = max(layer.key_value_groups for layer in architecture.layers)
    if not architecture.accepts_heads(groups * max(heads)):
        raise PlanError(
            f"{architecture.folder}: would need {groups * max(heads)} query heads a layer, which {architecture.family} "
            f"refuses: they must divide the hidden size of {architecture.hidden_size}; prune with uniform=true instead"
        )
    return groups, max(layer.channels for layer in architecture.layers)

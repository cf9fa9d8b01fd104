"""Layers of different widths padded with zeros to one shape, so that any serving engine loads the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.models.architecture import (
    ATTENTION_INPUTS,
    ATTENTION_OUTPUT,
    MLP_INPUTS,
    MLP_OUTPUT,
    Architecture,
    component,
    read_architecture,
)
from llm_pruner.models.checkpoint import CheckpointWriter, WeightReader, copy_companions, write_config
from llm_pruner.planning.plan import LayerPlan, Plan
from llm_pruner.surgery.cut import smaller_config
from llm_pruner.system.errors import PlanError
from llm_pruner.system.files import staged_directory
from llm_pruner.system.progress import track

if TYPE_CHECKING:
    import torch


def write_uniform(model: Path, output: Path, *, progress: bool = False) -> dict[str, Any]:
    """Write ``model`` with the key-value groups and MLP channels of its widest layers in every layer.

    What is added is zero and stands behind what is there: a group whose values and output weights are zero, a channel
    whose down weights are, add nothing to the residual stream, so the logits stay.

    Args:
        model: model folder.
        output: the new folder; it appears only when complete.
        progress: show a progress bar on stderr.

    Returns:
        ``key_value_groups`` and ``channels`` of every layer, and ``parameters``: ``before``, ``after``, ``added``.

    Raises:
        CheckpointError: if ``model`` cannot be read.
        PlanError: if hidden dimensions are sliced, a layer lacks a block, layers have different numbers of query heads
            in a group, or transformers' own class refuses the number of heads that it comes to.
    """
    architecture = read_architecture(model)
    if architecture.config.get("sliced"):
        raise PlanError(f"{model}: its hidden dimensions are sliced, which no padding makes an ordinary shape of")
    groups, channels = _widest(architecture)
    every = tuple(
        LayerPlan(index, tuple(range(groups)), tuple(range(channels))) for index in range(architecture.num_layers)
    )
    weights = WeightReader(model)
    with staged_directory(output) as folder, CheckpointWriter(folder) as writer:
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
    """A parameter with zeros behind it, as far as its layer is narrower than ``groups`` and ``channels``."""
    from torch.nn.functional import pad

    index, _ = component(name)
    module, _, kind = name.rpartition(".")
    linear = module.rpartition(".")[2]
    if index is None:
        return tensor
    head_dim, heads = architecture.head_dim, architecture.layers[index].heads_per_group
    widths = {
        "k_proj": groups * head_dim,
        "v_proj": groups * head_dim,
        "q_proj": groups * head_dim * heads,
        ATTENTION_OUTPUT: groups * head_dim * heads,
        **dict.fromkeys((*MLP_INPUTS, MLP_OUTPUT), channels),
    }
    if linear in (*ATTENTION_INPUTS, *MLP_INPUTS):
        behind = widths[linear] - tensor.shape[0]
        return pad(tensor, (0, behind) if tensor.ndim == 1 else (0, 0, 0, behind))
    if linear in (ATTENTION_OUTPUT, MLP_OUTPUT) and kind == "weight":
        return pad(tensor, (0, widths[linear] - tensor.shape[1]))
    return tensor


def _widest(architecture: Architecture) -> tuple[int, int]:
    """Key-value groups and MLP channels that every layer will have."""
    architecture.check_blocks()
    heads = {layer.heads_per_group for layer in architecture.layers}
    if len(heads) > 1:
        raise PlanError(f"{architecture.folder}: groups of {sorted(heads)} query heads cannot have one shape")
    groups = max(layer.key_value_groups for layer in architecture.layers)
    if not architecture.accepts_heads(groups * max(heads)):
        raise PlanError(
            f"{architecture.folder}: padded to {groups * max(heads)} query heads a layer, which {architecture.family} "
            f"refuses: they must divide the hidden size of {architecture.hidden_size}; prune with uniform=true instead"
        )
    return groups, max(layer.channels for layer in architecture.layers)

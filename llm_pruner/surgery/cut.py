"""Plan + checkpoint → smaller checkpoint. Only this module changes shapes of weights.

The cut reads and writes safetensors files, tensor by tensor. It builds no model, and peak memory is one shard.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.models.architecture import (
    FAMILIES,
    Architecture,
    LayerShape,
    read_architecture,
    refuse_sliced,
)
from llm_pruner.models.checkpoint import (
    CheckpointWriter,
    WeightReader,
    copy_companions,
    write_config,
)
from llm_pruner.models.layout import (
    BLOCKS,
    DROPPED,
    PER_LAYER_LISTS,
    component,
    cut_of,
    kept_indices,
    layer_prefix,
    segment_sizes,
)
from llm_pruner.planning.plan import LayerPlan, Plan
from llm_pruner.system.files import staged_directory
from llm_pruner.system.progress import track

if TYPE_CHECKING:
    import torch


def cut(base: Path, plan: Plan, output: Path, *, progress: bool = False) -> None:
    """Apply a plan to a model folder and write the smaller model as a Hugging Face folder.

    Args:
        base: model folder.
        plan: layers, groups and channels that stay.
        output: the new folder; it appears only when complete.
        progress: show a progress bar on stderr.

    Raises:
        CheckpointError: if ``base`` cannot be read.
        PlanError: if the plan does not fit ``base``, or the hidden dimensions of ``base`` are sliced.
    """
    architecture = read_architecture(base)
    refuse_sliced(architecture.config, base)
    plan.check(architecture)
    positions = {layer.index: position for position, layer in enumerate(plan.layers)}
    weights = WeightReader(base)
    with staged_directory(output, inputs=[base]) as folder, CheckpointWriter(folder) as writer:
        for name in track(list(weights.names()), "cutting", "tensor", show=progress):
            index, _ = component(name)
            if index is None:
                writer.add(name, weights.tensor(name))
                continue
            if index not in positions:
                continue
            layer = plan.layers[positions[index]]
            if architecture.block_of(name) in layer.dropped:
                continue
            inner = name.removeprefix(layer_prefix(index))
            tensor = slice_parameter(
                inner, weights.tensor(name), layer, architecture.layers[index], architecture.head_dim
            )
            writer.add(layer_prefix(positions[index]) + inner, tensor)
        write_config(folder, smaller_config(architecture, plan))
        copy_companions(base, folder)


def slice_parameter(
    name: str, tensor: torch.Tensor, layer: LayerPlan, shape: LayerShape, head_dim: int
) -> torch.Tensor:
    """The kept part of one parameter of a layer.

    Args:
        name: name of the parameter within the layer.
        tensor: the whole parameter.
        layer: groups and channels that stay.
        shape: widths of the layer in the base.
        head_dim: dimensions of a head.
    """
    import torch

    cut = cut_of(name)
    if cut is None or cut.axis >= tensor.ndim:
        # an output bias belongs to the residual stream, not to the removed units
        return tensor
    ratio = shape.heads_per_group
    sizes = segment_sizes(cut, shape.key_value_groups, shape.channels, heads_per_group=ratio, head_dim=head_dim)
    kept = kept_indices(cut, layer.groups, layer.channels, heads_per_group=ratio, head_dim=head_dim, sizes=sizes)
    return tensor.index_select(cut.axis, torch.tensor(kept, device=tensor.device))


def smaller_config(architecture: Architecture, plan: Plan) -> dict[str, Any]:
    """config.json of the pruned model.

    The ordinary global keys describe blocks of one shape, if transformers' own class accepts the shape. Otherwise the
    global keys keep the base's values, and ``per_layer_config`` lists the differences. ``dropped_blocks`` lists the
    layers without a block.
    """
    config = copy.deepcopy(architecture.config)
    for key in ("per_layer_config", "auto_map", "allow_global_per_layer_attribute_access", DROPPED):
        config.pop(key, None)
    widths = [_layer_widths(architecture, layer) for layer in plan.layers]
    common = {key: value for width in widths for key, value in width.items()}
    uniform = all(value == common[key] for width in widths for key, value in width.items())
    if uniform and architecture.accepts_heads(common.get("num_attention_heads", 1)):
        config.update(common)
    else:
        config["per_layer_config"] = {
            str(position): own
            for position, width in enumerate(widths)
            if (own := {key: value for key, value in width.items() if value != config[key]})
        }
    dropped = {
        block: [position for position, layer in enumerate(plan.layers) if block in layer.dropped] for block in BLOCKS
    }
    if any(dropped.values()):
        config[DROPPED] = dropped
    config["architectures"] = [FAMILIES[architecture.family].model_class]
    config["num_hidden_layers"] = len(plan.layers)
    config["head_dim"] = architecture.head_dim
    for key in PER_LAYER_LISTS:
        if config.get(key):
            config[key] = [config[key][index] for index in plan.kept_layers]
    return config


def _layer_widths(architecture: Architecture, layer: LayerPlan) -> dict[str, int]:
    """Widths of the blocks that the layer keeps, by key of config.json."""
    widths = {
        "num_attention_heads": len(layer.groups) * architecture.layers[layer.index].heads_per_group,
        "num_key_value_heads": len(layer.groups),
        "intermediate_size": len(layer.channels),
    }
    return {key: width for key, width in widths.items() if width}

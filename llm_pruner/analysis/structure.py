"""The structure of a checkpoint, layer by layer: parameters, non-zeros and widths, without loading the model."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence

from llm_pruner.analysis.records import (
    AttentionSizes,
    LayerStructure,
    MLPSizes,
    ModelStructure,
    Sizes,
    TensorEntry,
    Totals,
)
from llm_pruner.models.architecture import Architecture, check_tied, read_architecture
from llm_pruner.models.headers import bytes_on_disk
from llm_pruner.models.layout import component
from llm_pruner.planning.plan import Plan
from llm_pruner.system.errors import CheckpointError, PlanError

PARTS = ("embedding", "attention", "mlp", "shortcut", "norm", "lm_head", "other")
"""Parts of a model. Every parameter belongs to one part; a tied output embedding counts once, as ``embedding``. A
shortcut carries the residual stream from one sliced basis to the next."""


def sparsity(parameters: int, nonzero: int) -> float:
    """Share of the stored parameters that are zero; 0 if nothing is stored."""
    return (parameters - nonzero) / parameters if parameters else 0.0


def empty_layer(layer_idx: int, head_dim: int) -> LayerStructure:
    """The record of a layer that the checkpoint no longer has."""
    return _layer_record(layer_idx, None, Counter(), Counter(), {"head_dim": head_dim})


def original_indices(plan: Plan | None, num_layers: int) -> tuple[Sequence[int], int]:
    """The base model's index of each stored layer, and the number of layers of the base.

    Without a plan the layers map one to one.

    Raises:
        PlanError: if the plan keeps another number of layers than the checkpoint holds.
    """
    if plan is None:
        return range(num_layers), num_layers
    if len(plan.kept_layers) != num_layers:
        raise PlanError(f"the plan keeps {len(plan.kept_layers)} layers, the checkpoint holds {num_layers}")
    return plan.kept_layers, plan.base_layers


def analyze_model(folder: str | os.PathLike[str], name: str, plan: Plan | None = None) -> ModelStructure:
    """Count the parameters of the checkpoint in ``folder``, in total, by part and by layer.

    Args:
        folder: a Hugging Face model folder with safetensors.
        name: name of the model in the result.
        plan: the plan of the pruned model, with the base's number of each stored layer. Removed layers appear
            at their original index, empty.

    Raises:
        CheckpointError: for a missing, damaged or inconsistent checkpoint, and for weights that are not finite.
        PlanError: if the plan belongs to another model.
    """
    architecture = read_architecture(folder)
    check_tied(folder)
    indices, base_layers = original_indices(plan, architecture.num_layers)
    stored, nonzero = _count(architecture)

    layers = {index: empty_layer(index, architecture.head_dim) for index in range(base_layers)}
    for position, index in enumerate(indices):
        layers[index] = _layer_record(
            index,
            position,
            _of_layer(stored, position),
            _of_layer(nonzero, position),
            {**architecture.layer_config(position), "head_dim": architecture.head_dim},
        )
    parameters = architecture.total_parameters
    total_nonzero = sum(nonzero.values())
    return ModelStructure(
        name=name,
        model_type=architecture.family,
        hidden_size=architecture.hidden_size,
        num_layers=architecture.num_layers,
        totals=Totals(
            parameters=parameters,
            nonzero=total_nonzero,
            sparsity=sparsity(parameters, total_nonzero),
            bytes_on_disk=bytes_on_disk(folder),
            parts={part: Sizes(parameters=_of_part(stored, part), nonzero=_of_part(nonzero, part)) for part in PARTS},
        ),
        layers=tuple(layers[index] for index in range(base_layers)),
    )


def list_tensors(folder: str | os.PathLike[str], plan: Plan | None = None) -> list[TensorEntry]:
    """Every tensor of a checkpoint, in the order of the layers.

    ``layer`` is the position in the tensor's own name, ``layer_idx`` the number of this layer in the base. Both are
    None outside the layers.
    """
    architecture = read_architecture(folder)
    indices, _ = original_indices(plan, architecture.num_layers)
    _check_positions(architecture)
    tensors = []
    for entry in architecture.tensors.values():
        layer, part = component(entry.name)
        tensors.append(
            TensorEntry(
                name=entry.name,
                shape=tuple(entry.shape),
                dtype=entry.dtype,
                parameters=entry.numel,
                component=part,
                layer=layer,
                layer_idx=None if layer is None else indices[layer],
            )
        )
    return sorted(tensors, key=_reading_order)


def _reading_order(tensor: TensorEntry) -> tuple[int, int, int, str]:
    """Sort key: embedding, layers in order, then all other tensors."""
    layer, part = tensor.layer, PARTS.index(tensor.component)
    section = 1 if layer is not None else 0 if tensor.component == "embedding" else 2
    return section, -1 if layer is None else layer, part, tensor.name


def _check_positions(architecture: Architecture) -> None:
    for name in architecture.tensors:
        layer, _ = component(name)
        if layer is not None and layer >= architecture.num_layers:
            raise CheckpointError(
                f"{architecture.folder}: the weights hold '{name}', "
                f"but config.json says {architecture.num_layers} layers"
            )


_Counts = Counter[tuple[int | None, str]]
"""Elements by (position of the layer, part)."""


def _count(architecture: Architecture) -> tuple[_Counts, _Counts]:
    """Counts of all elements, and of the elements that are not zero."""
    _check_positions(architecture)
    stored: _Counts = Counter()
    nonzero: _Counts = Counter()
    for entry in architecture.tensors.values():
        place = component(entry.name)
        stored[place] += entry.numel
        nonzero[place] += entry.count_nonzero()
    return stored, nonzero


def _of_layer(counts: _Counts, position: int) -> Counter[str]:
    return Counter({part: counts[position, part] for part in PARTS})


def _of_part(counts: _Counts, part: str) -> int:
    return sum(count for (_, its_part), count in counts.items() if its_part == part)


def _layer_record(
    layer_idx: int,
    position: int | None,
    stored: Counter[str],
    nonzero: Counter[str],
    widths: Mapping[str, int],
) -> LayerStructure:
    # a removed block has no width, although the configuration may still have one
    attention = widths if stored["attention"] else {}
    mlp = widths if stored["mlp"] else {}
    return LayerStructure(
        layer_idx=layer_idx,
        position=position,
        attention=AttentionSizes(
            parameters=stored["attention"],
            nonzero=nonzero["attention"],
            heads=attention.get("num_attention_heads", 0),
            key_value_groups=attention.get("num_key_value_heads", 0),
            head_dim=widths["head_dim"],
        ),
        mlp=MLPSizes(parameters=stored["mlp"], nonzero=nonzero["mlp"], channels=mlp.get("intermediate_size", 0)),
        shortcut=Sizes(parameters=stored["shortcut"], nonzero=nonzero["shortcut"]),
        parameters=stored.total(),
        nonzero=nonzero.total(),
        sparsity=sparsity(stored.total(), nonzero.total()),
    )

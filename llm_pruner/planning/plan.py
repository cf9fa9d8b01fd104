"""Plans, which list the layers, key-value groups and MLP channels that stay, and are checked against their model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llm_pruner.models.architecture import Architecture
from llm_pruner.models.layout import BLOCKS, component
from llm_pruner.system.errors import PlanError
from llm_pruner.system.files import read_json, write_text


@dataclass(frozen=True)
class LayerPlan:
    """The kept units of one layer, by their indices in the base, ascending."""

    index: int
    """Index of the layer in the base, from 0."""
    groups: tuple[int, ...]
    """Kept key-value groups; empty if the whole attention block is removed, with its norm."""
    channels: tuple[int, ...]
    """Kept MLP channels; empty if the whole MLP block is removed, with its norm."""

    @property
    def dropped(self) -> tuple[str, ...]:
        """Blocks that are removed as a whole: ``attention`` or ``mlp``."""
        return tuple(block for block, kept in zip(BLOCKS, (self.groups, self.channels), strict=True) if not kept)


@dataclass(frozen=True)
class Plan:
    """The kept layers and units of a model."""

    base_layers: int
    """Number of layers of the base."""
    layers: tuple[LayerPlan, ...]
    """Kept layers, ascending."""

    @classmethod
    def keep_everything(cls, architecture: Architecture) -> Plan:
        """The plan that removes nothing."""
        return cls.keep_layers(architecture, range(architecture.num_layers))

    @classmethod
    def keep_layers(cls, architecture: Architecture, indices: Iterable[int]) -> Plan:
        """The plan that keeps these layers whole and removes the others."""
        shapes = architecture.layers
        return cls(
            architecture.num_layers,
            tuple(
                LayerPlan(i, tuple(range(shapes[i].key_value_groups)), tuple(range(shapes[i].channels)))
                for i in sorted(indices)
            ),
        )

    @classmethod
    def drop_blocks(cls, architecture: Architecture, block: str, indices: Iterable[int]) -> Plan:
        """The plan that keeps every layer, but removes the ``attention`` or ``mlp`` block of these layers."""
        layers = list(cls.keep_everything(architecture).layers)
        for index in indices:
            layers[index] = (
                replace(layers[index], groups=()) if block == "attention" else replace(layers[index], channels=())
            )
        return cls(architecture.num_layers, tuple(layers))

    @property
    def kept_layers(self) -> tuple[int, ...]:
        """Indices of the kept layers, in the base."""
        return tuple(layer.index for layer in self.layers)

    @property
    def removed_layers(self) -> tuple[int, ...]:
        """Indices of the removed layers, in the base."""
        return tuple(sorted(set(range(self.base_layers)) - set(self.kept_layers)))

    def dropped_blocks(self, block: str) -> tuple[int, ...]:
        """Indices of the kept layers whose ``attention`` or ``mlp`` block is removed."""
        return tuple(layer.index for layer in self.layers if block in layer.dropped)

    def check(self, architecture: Architecture) -> None:
        """Raise PlanError unless the plan fits the model and every kept layer keeps a block."""
        if self.base_layers != architecture.num_layers:
            raise PlanError(
                f"this plan is for {self.base_layers} layers, {architecture.folder} has {architecture.num_layers}"
            )
        if not self.layers:
            raise PlanError("this plan leaves no layer")
        if list(self.kept_layers) != sorted(set(self.kept_layers)):
            raise PlanError(f"kept layers must be ascending and distinct, not {list(self.kept_layers)}")
        for layer in self.layers:
            if not 0 <= layer.index < self.base_layers:
                raise PlanError(f"layer {layer.index} is not one of the model's {self.base_layers}")
            shape = architecture.layers[layer.index]
            if not layer.groups and not layer.channels:
                raise PlanError(f"layer {layer.index} would keep nothing; leave the layer out of the plan instead")
            for name, kept, available in (
                ("key-value groups", layer.groups, shape.key_value_groups),
                ("MLP channels", layer.channels, shape.channels),
            ):
                if list(kept) != sorted(set(kept)) or not set(kept) <= set(range(available)):
                    raise PlanError(
                        f"layer {layer.index}: kept {name} must be ascending and within 0 … {available - 1}"
                    )

    def removed_parameters(self, architecture: Architecture) -> int:
        """Number of parameters that the plan removes."""
        kept = {layer.index: layer for layer in self.layers}
        removed = 0
        for name, tensor in architecture.tensors.items():
            index, _ = component(name)
            if index is not None and (index not in kept or architecture.block_of(name) in kept[index].dropped):
                removed += tensor.numel
        for layer in self.layers:
            shape = architecture.layers[layer.index]
            if layer.groups:
                removed += (shape.key_value_groups - len(layer.groups)) * shape.group_parameters
            if layer.channels:
                removed += (shape.channels - len(layer.channels)) * shape.channel_parameters
        return removed

    def to_dict(self) -> dict[str, Any]:
        return {
            "base": {"num_layers": self.base_layers},
            "kept_layers": list(self.kept_layers),
            "layers": [
                {"index": layer.index, "groups": list(layer.groups), "channels": list(layer.channels)}
                for layer in self.layers
            ],
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Plan:
        return cls(
            value["base"]["num_layers"],
            tuple(
                LayerPlan(layer["index"], tuple(layer["groups"]), tuple(layer["channels"])) for layer in value["layers"]
            ),
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON, one line for each layer, so that ``diff`` compares two plans."""
        value = self.to_dict()
        layers = ",\n    ".join(json.dumps(layer) for layer in value["layers"])
        base, kept = json.dumps(value["base"]), json.dumps(value["kept_layers"])
        text = f'{{\n  "base": {base},\n  "kept_layers": {kept},\n  "layers": [\n    {layers}\n  ]\n}}\n'
        write_text(path, text)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Plan:
        """Read a plan written by ``write``.

        Raises:
            DataError: if the file is missing or not JSON.
            PlanError: if the file is JSON but not a plan.
        """
        value = read_json(Path(path))
        try:
            return cls.from_dict(value)
        except (KeyError, TypeError) as error:
            raise PlanError(f"{path}: not a pruning plan ({error!r})") from None

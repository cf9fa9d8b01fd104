"""Plans, which list the layers, key-value groups and MLP channels that stay, and are checked against their model."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from llm_pruner.models.architecture import Architecture
from llm_pruner.models.layout import BLOCKS, component
from llm_pruner.system.errors import PlanError, listed, problems_of
from llm_pruner.system.files import read_json, write_text
from llm_pruner.system.records import WAY_OUT, Part

_Index = Annotated[int, Field(strict=True, ge=0)]


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
        units = [(shape.key_value_groups, shape.channels) for shape in architecture.layers]
        self.check_units(units, str(architecture.folder))

    def check_units(self, units: Sequence[tuple[int, int]], model: str) -> None:
        """Raise PlanError unless the plan fits a model and every kept layer keeps a block.

        Args:
            units: key-value groups and MLP channels of each layer.
            model: name of the model in messages.
        """
        if self.base_layers != len(units):
            raise PlanError(f"this plan is for {self.base_layers} layers, {model} has {len(units)}")
        if not self.layers:
            raise PlanError("this plan leaves no layer")
        if list(self.kept_layers) != sorted(set(self.kept_layers)):
            raise PlanError(f"kept layers must be ascending and distinct, not {list(self.kept_layers)}")
        for layer in self.layers:
            if not 0 <= layer.index < self.base_layers:
                raise PlanError(f"layer {layer.index} is not one of the model's {self.base_layers}")
            if not layer.groups and not layer.channels:
                raise PlanError(f"layer {layer.index} would keep nothing; leave the layer out of the plan instead")
            groups, channels = units[layer.index]
            for name, kept, available in (
                ("key-value groups", layer.groups, groups),
                ("MLP channels", layer.channels, channels),
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

    @property
    def digest(self) -> str:
        """SHA-256 of what the plan says, however its file is laid out."""
        return hashlib.sha256(json.dumps(self.to_dict()).encode()).hexdigest()

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
            PlanError: if the file is JSON but not a plan. Names every problem.
        """
        value = read_json(path)
        try:
            held = _PlanFile.model_validate(value)
        except ValidationError as error:
            problems = problems_of(error, _PlanFile, value)
            raise PlanError(listed(f"{path}: not a pruning plan", problems, WAY_OUT)) from None
        layers = tuple(LayerPlan(layer.index, layer.groups, layer.channels) for layer in held.layers)
        return cls(held.base.num_layers, layers)


def read_made_plan(path: str | os.PathLike[str]) -> Plan:
    """Read the plan that a model was cut by: ``plan.json`` as it was when the ``pruning.json`` beside it was written.

    A plan without such a record is only checked in itself.

    Raises:
        DataError: if a file is missing or not JSON.
        PlanError: if it is not a plan, or was changed since.
    """
    plan, record = Plan.read(path), Path(path).with_name("pruning.json")
    made = read_json(record).get("plan") if record.exists() else None
    if made not in (None, plan.digest):
        raise PlanError(
            f"{path}: changed since its model was made: its SHA-256 is {plan.digest[:12]}…, and {record} says "
            f"{str(made)[:12]}…; put the file back, or delete the model's folder and run again to make both anew"
        )
    return plan


class _BaseOfPlan(Part):
    """The model that is cut."""

    num_layers: Annotated[int, Field(strict=True, gt=0)]


class _LayerOfPlan(Part):
    """A line of the file."""

    index: _Index
    groups: tuple[_Index, ...]
    channels: tuple[_Index, ...]

    @model_validator(mode="after")
    def _ascends(self) -> Self:
        for name, kept in (("groups", self.groups), ("channels", self.channels)):
            if list(kept) != sorted(set(kept)):
                raise ValueError(f"{name} must be ascending and distinct")
        if not self.groups and not self.channels:
            raise ValueError(f"layer {self.index} would keep nothing; a layer that goes is left out")
        return self


class _PlanFile(Part):
    """The form of ``plan.json``."""

    base: _BaseOfPlan
    kept_layers: tuple[_Index, ...] | None = None
    """The numbers of ``layers`` once more, for people; a plan made by hand may lack them."""
    layers: Annotated[tuple[_LayerOfPlan, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits_itself(self) -> Self:
        indices = [layer.index for layer in self.layers]
        if self.kept_layers is not None and list(self.kept_layers) != indices:
            raise ValueError(f"kept_layers: {list(self.kept_layers)}, but layers has {indices}")
        if indices != sorted(set(indices)):
            raise ValueError(f"layers: {indices} must be ascending and distinct")
        if indices[-1] >= self.base.num_layers:
            raise ValueError(f"layers: {indices[-1]} is not one of the base's {self.base.num_layers}")
        return self

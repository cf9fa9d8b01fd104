"""What a mechanism's cases are."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch

from llm_pruner.methods.base import Method
from llm_pruner.models.architecture import Architecture
from llm_pruner.planning.plan import Plan
from llm_pruner.repairs.choice import REPAIR
from llm_pruner.variants.records import PruningRecord


class Case(NamedTuple):
    """A variant to make: its name and its options."""

    name: str
    options: dict[str, Any]


class Refusal(NamedTuple):
    """A variant that no model of four layers can give, and what is said of it."""

    name: str
    message: str


class MechanismCases(ABC):
    """A mechanism's part in the tests of what every method owes its user."""

    amounts: ClassVar[tuple[Case, ...]]
    """Made of every method that drives the mechanism; names are what follows the method's."""
    further: ClassVar[tuple[Case, ...]] = ()
    """Made once, with the method that the name begins with."""
    elsewhere: ClassVar[tuple[tuple[Case, bool], ...]] = ()
    """Loaded where this package is not, and whether the folder's own code must run for that."""
    spread: ClassVar[tuple[Case, ...]] = ()
    """Loaded over several devices."""
    refused: ClassVar[tuple[Refusal, ...]] = ()
    """Asks for more than there is."""
    reads_weights: ClassVar[tuple[str, ...]] = ()
    """Methods that must notice weights that are not finite: those that score, with the mechanism's suffix."""

    def fits(self, method: type[Method], options: Mapping[str, Any]) -> bool:
        """Whether a method can do this with a model of four layers."""
        return True

    def of(self, name: str, method: type[Method]) -> Iterator[Case]:
        """The amounts as variants of a method."""
        # as many layers ranked as the largest amount needs, where a method ranks one after the other
        ranked = {"steps": 3} if "steps" in method.Options.model_fields else {}
        for suffix, options in self.amounts:
            if self.fits(method, options):
                yield Case(f"{name}{suffix}", {**options, **ranked})

    @abstractmethod
    def take_out(self, dense: Any, output: Path, tokens: torch.Tensor) -> Any:
        """The dense model with what was removed zeroed, bypassed or projected out: an independent account of a pruning.

        Args:
            dense: may be changed.
            output: the variant's folder.
        """

    @abstractmethod
    def check_size(
        self, record: PruningRecord, options: Mapping[str, Any], before: Architecture, after: Architecture
    ) -> None:
        """What was reached is what is on disk, and as near to what was asked as whole units allow."""


def repaired(mechanism: str, *made: tuple[str, str], **more: Any) -> tuple[Case, ...]:
    """Every repair of a mechanism's models, of variants that are named by method and amount, with ``more`` options."""
    found = []
    for repair, cls in REPAIR.fitting(mechanism).items():
        if fields := cls.Options.model_fields:
            # as short as it goes, where a repair trains
            options = {"held_out": 0.25, **({"epochs": 1} if "epochs" in fields else {})}
            label = repair.replace("_", "-")
            found += [
                Case(f"{method}_{label}_{amount}", {"repair": {repair: options}, **more}) for method, amount in made
            ]
    return tuple(found)


def zero_planned(dense: Any, output: Path) -> Any:
    """The dense model with what a plan removes adding nothing to the residual stream."""
    plan = Plan.read(output / "plan.json")
    layers, config = dense.model.layers, dense.config
    for kept in plan.layers:
        attention, mlp = layers[kept.index].self_attn, layers[kept.index].mlp
        width = attention.head_dim * (config.num_attention_heads // config.num_key_value_heads)
        for group in set(range(config.num_key_value_heads)) - set(kept.groups):
            attention.o_proj.weight.data[:, group * width : (group + 1) * width] = 0
        mlp.down_proj.weight.data[:, sorted(set(range(config.intermediate_size)) - set(kept.channels))] = 0
    gone = plan.removed_layers
    for projection in (
        *(layers[index].self_attn.o_proj for index in gone + plan.dropped_blocks("attention")),
        *(layers[index].mlp.down_proj for index in gone + plan.dropped_blocks("mlp")),
    ):
        for parameter in projection.parameters():
            parameter.data.zero_()
    return dense


def set_kept_columns(dense: Any, output: Path) -> None:
    """Give what writes the residual stream, in the columns that a plan keeps and in biases, what was written."""
    from safetensors.torch import load_file

    written = load_file(output / "model" / "model.safetensors")
    for position, kept in enumerate(Plan.read(output / "plan.json").layers):
        layer = dense.model.layers[kept.index]
        width = layer.self_attn.o_proj.in_features // dense.config.num_key_value_heads
        columns = [group * width + offset for group in kept.groups for offset in range(width)]
        for name, indices in (("self_attn.o_proj", columns), ("mlp.down_proj", list(kept.channels))):
            values = written[f"model.layers.{position}.{name}.weight"]
            linear = layer.get_submodule(name)
            linear.weight.data[:, indices] = values
            if (bias := written.get(f"model.layers.{position}.{name}.bias")) is not None:
                linear.bias = torch.nn.Parameter(bias)


def set_kept_units(dense: Any, output: Path) -> None:
    """Give all linear layers, in the rows and columns of the units that a plan keeps, the values that were written."""
    from safetensors.torch import load_file

    written = load_file(output / "model" / "model.safetensors")
    for position, kept in enumerate(Plan.read(output / "plan.json").layers):
        layer = dense.model.layers[kept.index]
        width = layer.self_attn.head_dim
        query = width * (dense.config.num_attention_heads // dense.config.num_key_value_heads)
        heads, keys = ([g * size + offset for g in kept.groups for offset in range(size)] for size in (query, width))
        units = {"q_proj": heads, "k_proj": keys, "v_proj": keys, "o_proj": heads}
        for name, linear in layer.named_modules():
            if isinstance(linear, torch.nn.Linear):
                last = name.rpartition(".")[2]
                place = units.get(last, list(kept.channels))
                for kind, parameter in linear.named_parameters():
                    values = written[f"model.layers.{position}.{name}.{kind}"]
                    if last not in ("o_proj", "down_proj"):
                        parameter.data[place] = values
                    elif kind == "weight":
                        parameter.data[:, place] = values
                    else:
                        parameter.data.copy_(values)


def set_kept_layers(dense: Any, output: Path) -> None:
    """Give the layers that a plan keeps whole, and what is around the layers, the values that were written."""
    from safetensors.torch import load_file

    written = load_file(output / "model" / "model.safetensors")
    positions = {kept.index: position for position, kept in enumerate(Plan.read(output / "plan.json").layers)}
    for name, parameter in dense.named_parameters():
        match = re.match(r"model\.layers\.(\d+)\.(.*)", name)
        if match and int(match[1]) in positions:
            parameter.data.copy_(written[f"model.layers.{positions[int(match[1])]}.{match[2]}"])
        elif not match and name in written:
            parameter.data.copy_(written[name])


def with_weights_of(dense: Any, output: Path) -> Any:
    """The dense model with the weights that were written: nothing but values changed."""
    from safetensors.torch import load_file

    dense.load_state_dict(load_file(output / "model" / "model.safetensors"), strict=False)
    return dense

"""Options of all methods that prune by width."""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from llm_pruner.mechanisms.base import MechanismOptions
from llm_pruner.planning.allocations.base import Allocation, Ranking
from llm_pruner.planning.allocations.choice import ALLOCATION, UNIFORM
from llm_pruner.repairs.base import Repair
from llm_pruner.repairs.choice import NONE, REPAIR
from llm_pruner.system.choice import Choice
from llm_pruner.system.options import Count, Natural

SEARCH = "search"
_SPLIT = rf"^[1-9]\d*:\d+$|^\d+:[1-9]\d*$|^{SEARCH}$"
_BOUND = r"-?\d+(?:\.\d+%|%)?"
_LAYER_RANGE = rf"^(?:{_BOUND})?:(?:{_BOUND})?$"


class WidthOptions(MechanismOptions):
    """Options of width pruning, for every method."""

    mechanism = "width"
    chosen: ClassVar = {"allocation": ALLOCATION, "repair": REPAIR}

    uniform: bool = False
    """Give every layer the same shape, so that any serving engine loads the model."""
    multiple_of: Count = 1
    """Widths are multiples of this."""
    split: str | None = Field(default=None, json_schema_extra={"pattern": _SPLIT})
    """Shares of the budget for attention and MLP, such as ``2:8``, or ``search`` for the shares with the lowest
    held-out perplexity. By default both lose at the same rate."""
    allocation: Choice = Field(default=UNIFORM, json_schema_extra=partial(ALLOCATION.schema, mechanism="width"))
    """Allocation: the rule for how layers share the budget. A name, or a name with options, such as
    ``{inverse: {alpha: 2}}``."""
    repair: Choice = Field(default=NONE, json_schema_extra=partial(REPAIR.schema, mechanism="width"))
    """Repair: the change of the kept weights, or the added biases, after units are chosen. A name, or a name with
    options, such as ``{least_squares: {ridge: 0.1}}``."""
    importance: str | None = None
    """Method whose layer scores are the importance for ``freeze_top_layers``, and for an allocation that uses
    importance: any method that prunes by depth, by default ``Ablation``."""
    importance_samples: Count | None = None
    """Measure this importance on the first n calibration samples; all by default."""
    min_rate: float = Field(default=0.0, ge=0, lt=1)
    """Smallest share of its units that a layer loses, as far as whole units allow."""
    max_rate: float = Field(default=1.0, gt=0, le=1)
    """Largest share of its units that a layer loses."""
    freeze_top_layers: Natural = 0
    """Keep the n most important layers whole."""
    layer_range: str | None = Field(default=None, json_schema_extra={"pattern": _LAYER_RANGE})
    """Layers that can lose units, as start and end (exclusive): ``4:30``, ``2:-1``, or shares of the depth, rounded up,
    ``12.5%:-6.25%``."""

    @field_validator("split")
    @classmethod
    def _is_split(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(_SPLIT, value):
            raise ValueError(
                f"'{value}' is not a split; write the shares of attention and MLP as two whole numbers, not both 0, "
                f"such as 2:8, or write '{SEARCH}'"
            )
        return value

    @field_validator("layer_range")
    @classmethod
    def _is_range(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(_LAYER_RANGE, value):
            raise ValueError(
                f"'{value}' is not a range of layers; write first:end, such as 4:30, 2:-1, 1: or 12.5%:-6.25%"
            )
        return value

    @model_validator(mode="before")
    @classmethod
    def _give_importance_to_allocation(cls, given: Any) -> Any:
        """Move importance beside an allocation that uses importance into the allocation's options."""
        if not isinstance(given, dict):
            return given
        beside = {key: given[key] for key in ("importance", "importance_samples") if given.get(key) is not None}
        name, own = ALLOCATION.split(given.get("allocation", UNIFORM))
        cls_of = ALLOCATION.fitting("width").get(name)
        moved = {key: value for key, value in beside.items() if cls_of and key in cls_of.Options.model_fields}
        if not moved:
            return given
        if twice := moved.keys() & own.keys():
            raise ValueError(
                f"{', '.join(sorted(twice))}: given twice, beside the allocation {name} and in its options"
            )
        rest = {key: value for key, value in given.items() if key not in moved}
        return {**rest, "allocation": {name: {**own, **moved}}}

    @model_validator(mode="after")
    def _agree(self) -> WidthOptions:
        apart = [
            name
            for name in ("min_rate", "max_rate", "freeze_top_layers", "layer_range")
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        name, _ = ALLOCATION.split(self.allocation)
        if self.sharing.needs:
            apart.append(f"allocation {name}")
        idle = [key for key in ("importance", "importance_samples") if getattr(self, key) is not None]
        if idle and not self.freeze_top_layers:
            by_importance = [each for each, cls in ALLOCATION.fitting("width").items() if "importance" in cls.needs]
            raise ValueError(
                f"{', '.join(idle)}: no effect with allocation {name}; set allocation to "
                f"{' or '.join(by_importance)}, or set freeze_top_layers"
            )
        if self.uniform and apart:
            raise ValueError(f"uniform gives all layers one shape and cannot be combined with {', '.join(apart)}")
        if self.min_rate > self.max_rate:
            raise ValueError(f"min_rate {self.min_rate:g} is above max_rate {self.max_rate:g}")
        return self

    @property
    def sharing(self) -> Allocation:
        """The chosen allocation."""
        return ALLOCATION.make(self.allocation)

    @property
    def repairing(self) -> Repair:
        """The chosen repair."""
        return REPAIR.make(self.repair)

    @property
    def ranking(self) -> Ranking | None:
        if (asked := self.sharing.ranking) or not self.freeze_top_layers:
            return asked
        samples = {} if self.importance_samples is None else {"samples": self.importance_samples}
        return Ranking(self.importance or "Ablation", samples)

    def layers_in_range(self, num_layers: int) -> range:
        """Indices of the layers in ``layer_range``, which can lose units.

        >>> WidthOptions(layer_range="12.5%:-6.25%").layers_in_range(32)
        range(4, 30)
        """
        first, last = (self.layer_range or ":").split(":")
        return range(num_layers)[_bound(first, num_layers) : _bound(last, num_layers)]


def _bound(text: str, num_layers: int) -> int | None:
    """One end of a range of layers. A share of the depth is rounded up to whole layers."""
    if not text:
        return None
    if not text.endswith("%"):
        return int(text)
    layers = math.ceil(abs(float(text[:-1])) / 100 * num_layers)
    return -layers if text.startswith("-") else layers

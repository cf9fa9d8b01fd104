"""Options of every method that prunes by width."""

from __future__ import annotations

import math
import re
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from llm_pruner.mechanisms.base import MechanismOptions, Ranking

SEARCH = "search"
_SPLIT = rf"^[1-9]\d*:\d+$|^\d+:[1-9]\d*$|^{SEARCH}$"
_BOUND = r"-?\d+(?:\.\d+%|%)?"
_LAYER_RANGE = rf"^(?:{_BOUND})?:(?:{_BOUND})?$"


class WidthOptions(MechanismOptions):
    uniform: bool = False
    """Give every layer the same shape, so that any serving engine loads the model."""
    multiple_of: PositiveInt = 1
    """Keep widths that are multiples of this."""
    split: str | None = Field(default=None, json_schema_extra={"pattern": _SPLIT})
    """Shares of the budget that attention and MLP give, such as ``2:8``, or ``search`` for the shares with the lowest
    held-out perplexity; by default both lose at one rate."""
    allocation: Literal["uniform", "inverse", "proportional", "global"] = "uniform"
    """How layers share the budget: at one rate, important layers less (``inverse``) or more (``proportional``), or by
    ranking the groups of all layers together by score per parameter (``global``)."""
    importance: str = "Ablation"
    """The method whose layer scores say how important a layer is, any that prunes by depth: ``Ablation`` by removal,
    ``Activation`` by activation."""
    importance_samples: PositiveInt | None = None
    """Measure importance on the first n calibration samples; all of them by default."""
    alpha: float = Field(default=1.0, gt=0)
    """Power of the normalised importance: larger values set the most important layers further apart."""
    log: bool = True
    """Use the logarithm of importance, so that one outlier does not flatten the differences between the rest."""
    min_rate: float = Field(default=0.0, ge=0, lt=1)
    """Every layer loses at least this share of its units, as far as whole units allow."""
    max_rate: float = Field(default=1.0, gt=0, le=1)
    """No layer loses more than this share of its units."""
    freeze_top_layers: NonNegativeInt = 0
    """Leave the n most important layers whole."""
    layer_range: str | None = Field(default=None, json_schema_extra={"pattern": _LAYER_RANGE})
    """Layers that may lose, first to the one behind the last: ``4:30``, ``2:-1``, or shares of the depth, rounded up,
    ``12.5%:-6.25%``."""

    @field_validator("split")
    @classmethod
    def _is_split(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(_SPLIT, value):
            raise ValueError(
                f"'{value}' is not a split; write the shares of attention and MLP, two whole numbers that are not both "
                f"0, such as 2:8, or '{SEARCH}'"
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

    @model_validator(mode="after")
    def _agree(self) -> WidthOptions:
        apart = [
            name
            for name in ("min_rate", "max_rate", "freeze_top_layers", "layer_range")
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        if self.allocation in ("inverse", "proportional"):
            apart.append(f"allocation {self.allocation}")
        self._refuse_idle()
        if self.uniform and apart:
            raise ValueError(f"uniform gives all layers one shape and cannot be combined with {', '.join(apart)}")
        if self.min_rate > self.max_rate:
            raise ValueError(f"min_rate {self.min_rate:g} is above max_rate {self.max_rate:g}")
        return self

    def _refuse_idle(self) -> None:
        """Refuse what decides nothing here, because another option would have to ask for it."""
        weighed = self.allocation in ("inverse", "proportional")
        idle = [] if weighed else ["alpha", "log"]
        idle += [] if self.needs_importance else ["importance", "importance_samples"]
        given = [name for name in idle if getattr(self, name) != type(self).model_fields[name].default]
        if given:
            ways = "" if {"alpha", "log"} & set(given) else ", or give freeze_top_layers"
            raise ValueError(
                f"{', '.join(given)}: nothing is decided by it with allocation {self.allocation}; set allocation to "
                f"inverse or proportional{ways}"
            )

    @property
    def ranking(self) -> Ranking | None:
        if not self.needs_importance:
            return None
        return Ranking(self.importance, {} if self.importance_samples is None else {"samples": self.importance_samples})

    @property
    def needs_importance(self) -> bool:
        """Whether layer importance decides anything."""
        return self.allocation in ("inverse", "proportional") or self.freeze_top_layers > 0

    def layers_in_range(self, num_layers: int) -> range:
        """The layers that ``layer_range`` lets lose.

        >>> WidthOptions(layer_range="12.5%:-6.25%").layers_in_range(32)
        range(4, 30)
        """
        first, last = (self.layer_range or ":").split(":")
        return range(num_layers)[_bound(first, num_layers) : _bound(last, num_layers)]


def _bound(text: str, num_layers: int) -> int | None:
    """One end of a slice of layers; a share counts whole layers, rounded up."""
    if not text:
        return None
    if not text.endswith("%"):
        return int(text)
    layers = math.ceil(abs(float(text[:-1])) / 100 * num_layers)
    return -layers if text.startswith("-") else layers

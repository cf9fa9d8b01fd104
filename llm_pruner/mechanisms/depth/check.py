"""Whether so many layers can go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.mechanisms.depth.options import DepthOptions
from llm_pruner.methods.base import LayerScoreMethod
from llm_pruner.system.errors import PlanError

if TYPE_CHECKING:
    from llm_pruner.variants.variant import Variant


def check(variant: Variant, num_layers: int) -> None:
    """Raise PlanError unless ``variant`` can be made of a model of so many layers, as far as can be told unscored."""
    options, count = DepthOptions(**variant.options), int(variant.amount)
    removable = len(options.removable(num_layers))
    most = min(removable, num_layers - 1)
    if count > most:
        protected = num_layers - removable
        hint = f", {protected} of them protected by protect_first and protect_last," if protected else ","
        raise PlanError(f"the model has {num_layers} layers{hint} at most {most} can go")
    method = variant.build_method()
    assert isinstance(method, LayerScoreMethod)
    method.check_count(num_layers, count)

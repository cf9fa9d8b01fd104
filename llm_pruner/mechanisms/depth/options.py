"""Options of all methods that prune by depth."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from llm_pruner.mechanisms.base import MechanismOptions
from llm_pruner.repairs.choice import NONE, REPAIR
from llm_pruner.system.choice import Choice
from llm_pruner.system.options import Natural

if TYPE_CHECKING:
    from llm_pruner.methods.base import Method

DROPS = {"layer": "layers", "attention": "attention blocks", "mlp": "MLP blocks"}
"""Values of the option ``drop``, with the name of the removed parts, plural."""


class DepthOptions(MechanismOptions):
    """Options of depth pruning, for every method."""

    mechanism = "depth"
    chosen: ClassVar = {"repair": REPAIR}
    scored: ClassVar[set[str]] = {"drop"}

    of: Literal["layers", "parameters"] = "layers"
    """Unit of the amount, set by the variant's name: ``ShortGPT_remove_4`` removes four layers (or blocks),
    ``ShortGPT_2000`` the number of layers nearest to 20 % of all parameters."""
    drop: Literal["layer", "attention", "mlp"] = "layer"
    """Part to remove from the chosen layers: the whole ``layer``, or the ``attention`` or ``mlp`` block, by scores of
    such blocks. A model with a missing block carries its own modelling file."""
    protect_first: Natural = 0
    """Number of first layers that are never removed. Methods that remove one layer after the other skip them."""
    protect_last: Natural = 0
    """Number of last layers that are never removed."""
    repair: Choice = Field(default=NONE, json_schema_extra=partial(REPAIR.schema, mechanism="depth"))
    """Repair of what is kept: the name of a repair, or the name with its options, ``{replace_me: {ridge: 0.1}}``."""

    def removable(self, num_layers: int) -> range:
        """Indices of the layers that can be removed.

        >>> DepthOptions(protect_first=1, protect_last=2).removable(8)
        range(1, 6)
        """
        return range(self.protect_first, max(self.protect_first, num_layers - self.protect_last))

    def problems_with(self, method: type[Method], structure: str) -> list[str]:
        if self.repair != NONE and self.drop != "layer":
            return [f"repair: mends whole layers that go, not {DROPS[self.drop]}; leave out drop or repair"]
        if self.drop in method.parts:
            return []
        return [f"drop: {method.name} can score only {' or '.join(method.parts)}, not {self.drop!r}"]

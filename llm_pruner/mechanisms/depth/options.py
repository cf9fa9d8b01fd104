"""Options of every method that prunes by depth."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, NonNegativeInt

from llm_pruner.mechanisms.base import MechanismOptions
from llm_pruner.repairs.choice import NONE, REPAIR
from llm_pruner.system.choice import Choice

if TYPE_CHECKING:
    from llm_pruner.methods.base import Method

DROPS = {"layer": "layers", "attention": "attention blocks", "mlp": "MLP blocks"}
"""What depth pruning can take of a layer, and what it takes a number of."""


class DepthOptions(MechanismOptions):
    mechanism = "depth"
    chosen: ClassVar = {"repair": REPAIR}
    scored: ClassVar[set[str]] = {"drop"}

    of: Literal["layers", "parameters"] = "layers"
    """What the amount counts, as its name says: ``ShortGPT_remove_4`` four layers (or blocks); ``ShortGPT_2000`` 20 %
    of all parameters, to which the nearest number of layers goes."""
    drop: Literal["layer", "attention", "mlp"] = "layer"
    """What goes of the chosen layers: all, or the ``attention`` or ``mlp`` block alone, by scores of such blocks. A
    layer without a block is run by a class that travels with the model."""
    protect_first: NonNegativeInt = 0
    """Never remove the first n layers; methods that remove one layer after the other pass over them in their order."""
    protect_last: NonNegativeInt = 0
    """Never remove the last n layers."""

    repair: Choice = Field(default=NONE, json_schema_extra=partial(REPAIR.schema, mechanism="depth"))
    """Repair of what is kept: the name of a repair, or the name with its options, ``{replace_me: {ridge: 0.1}}``."""

    def removable(self, num_layers: int) -> range:
        """The layers that may go.

        >>> DepthOptions(protect_first=1, protect_last=2).removable(8)
        range(1, 6)
        """
        return range(self.protect_first, max(self.protect_first, num_layers - self.protect_last))

    def problems_with(self, method: type[Method], structure: str) -> list[str]:
        if self.repair != NONE and self.drop != "layer":
            return [f"repair: mends whole layers that go, not {DROPS[self.drop]}; leave out drop or repair"]
        if self.drop in method.parts:
            return []
        return [f"drop: {method.name} can score {' or '.join(method.parts)} alone, not {self.drop!r}"]

"""Options of every method that prunes by depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeInt

from llm_pruner.mechanisms.base import MechanismOptions

if TYPE_CHECKING:
    from llm_pruner.methods.base import Method

DROPS = {"layer": "layers", "attention": "attention blocks", "mlp": "MLP blocks"}
"""What depth pruning can take of a layer, and what it takes a number of."""


class DepthOptions(MechanismOptions):
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

    def removable(self, num_layers: int) -> range:
        """The layers that may go.

        >>> DepthOptions(protect_first=1, protect_last=2).removable(8)
        range(1, 6)
        """
        return range(self.protect_first, max(self.protect_first, num_layers - self.protect_last))

    def problems_with(self, method: type[Method], structure: str) -> list[str]:
        if self.drop in method.parts:
            return []
        return [f"drop: {method.name} can score {' or '.join(method.parts)} alone, not {self.drop!r}"]

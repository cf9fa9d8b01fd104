"""What a repair is: what the kept weights become, once others are gone."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from llm_pruner.system.options import Options

if TYPE_CHECKING:
    import torch

Removed = Callable[[int, str], "torch.Tensor | None"]
"""What is gone of the linear layer of a name in the layer of an index: bool [in_features], whole columns, or
[out_features, in_features], single weights; None where nothing is."""


class Repair(ABC):
    """One way to set the kept weights anew, made from its options. Importing its module imports no torch."""

    title: ClassVar[str]
    """One line for people."""
    paper: ClassVar[str] = ""
    """Where it comes from."""
    mechanisms: ClassVar[tuple[str, ...]] = ("width", "sparse")
    """Mechanisms whose models it repairs."""
    adds_bias: ClassVar[bool] = False
    """Whether what it repairs has a bias afterwards."""
    Options: ClassVar[type[Options]] = Options

    def __init__(self, **options: Any) -> None:
        self.options = self.Options(**options)

"""What a repair is: what the kept weights become, once others are gone."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from llm_pruner.system.options import Options
from llm_pruner.system.records import Part
from llm_pruner.system.runtime import Runtime

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
    told: ClassVar[Literal["linears", "blocks", "cuts"]] = "linears"
    """The field of ``RepairRecord`` that holds what it tells."""
    Options: ClassVar[type[Options]] = Options

    def __init__(self, **options: Any) -> None:
        self.options = self.Options(**options)

    def apply(
        self,
        base: Path,
        output: Path,
        removed: Removed,
        input_ids: torch.Tensor | None,
        runtime: Runtime,
        *,
        description: str = "layers",
        resume_point: Path | None = None,
    ) -> Sequence[Part]:
        """Write the repaired model, of the shape of ``base``, and tell what that brought.

        Args:
            base: model folder.
            output: the folder to write.
            removed: what is gone of each linear layer.
            input_ids: int64 [samples, length].
            description: what the progress bar says.
            resume_point: folder for what a long repair needs to go on after it was killed; one that is quick leaves it.

        Raises:
            PlanError: if there are too few samples, or they do not determine the repair.
            CheckpointError: if inputs of a layer are not finite.
        """
        raise NotImplementedError

"""The base of repairs, which change the kept weights after a cut to make up for the removed weights."""

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
"""Mask of the removed weights, by index of the decoder layer and name of the linear layer: bool [in_features] for whole
columns, bool [out_features, in_features] for single weights, None if no weight of the linear layer is removed."""


class Repair(ABC):
    """A repair, made from its options. Importing its module must not import torch."""

    title: ClassVar[str]
    """A short description for people."""
    paper: ClassVar[str] = ""
    """The repair's source; empty without a publication."""
    mechanisms: ClassVar[tuple[str, ...]] = ("width", "sparse")
    """Mechanisms that the repair works for."""
    adds_bias: ClassVar[bool] = False
    """Whether the repair gives linear layers a bias."""
    told: ClassVar[Literal["linears", "blocks", "cuts"]] = "linears"
    """The field of ``RepairRecord`` that holds the repair's results."""
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
        """Write the repaired model to ``output``, in the shapes of ``base``.

        Args:
            base: model folder.
            output: the new folder; it appears only when complete.
            removed: masks of the removed weights.
            input_ids: calibration samples, int64 [samples, length].
            runtime: device, batch size and progress display.
            description: text of the progress bar.
            resume_point: folder for the resume point of a slow repair; a quick repair ignores it.

        Returns:
            Errors before and after the repair of each linear layer or block, in the order of repair.

        Raises:
            PlanError: if there are too few samples, or the samples do not determine the repair.
            CheckpointError: if inputs of a layer are not finite, or training diverges.
        """
        raise NotImplementedError

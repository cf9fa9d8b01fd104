"""What a repair brought, as part of the record of a variant."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from llm_pruner.system.records import Part


class LinearRepairRecord(Part):
    """What a repair brought of one linear layer, on held-out calibration samples; on all where none are held out."""

    layer: int
    """From 0."""
    linear: str
    """Name within the layer."""
    before: float
    """Squared error of the outputs without the repair, by their squared norm."""
    after: float
    """The same with it."""
    kept: bool
    """Whether the repair was kept: where it lowers the error."""
    settings: dict[str, Any]
    """Of several repairs tried, what sets the best apart. ``wanted`` of its outputs is the layer's ``own`` for the same
    inputs, or what takes the ``stream`` to where the dense model has it."""


class BlockRepairRecord(Part):
    """What a repair brought of one block, on held-out calibration samples.

    Its errors are those of the residual stream behind the block: each token's squared distance from the dense model's
    by its squared norm, the mean over tokens; or, where tokens count equally, the sum of distances by that of norms.
    """

    layer: int
    """From 0."""
    block: str
    """``attention`` or ``mlp``."""
    before: float
    """Error without the repair."""
    after: float
    """The lowest with it, of all checks."""
    step: int
    """Updates up to that check."""
    kept: bool
    """Whether the repair was kept: where it lowers the error."""


class RepairRecord(Part):
    """How the kept weights were repaired."""

    name: str
    """Of the repair."""
    options: dict[str, Any]
    """Defaults included."""
    linears: tuple[LinearRepairRecord, ...] = ()
    """In the order in which they were repaired; of a repair of linear layers."""
    blocks: tuple[BlockRepairRecord, ...] = ()
    """The same; of a repair of whole blocks."""

    def note(self) -> str:
        """What it brought, for people."""
        repaired, what = (self.blocks, "blocks") if self.blocks else (self.linears, "linear layers")
        if not repaired:
            return f"{self.name}: nothing that it repairs lost anything"
        kept = sum(part.kept for part in repaired)
        before = fmean(part.before for part in repaired)
        after = fmean(part.after if part.kept else part.before for part in repaired)
        samples = "the samples fitted" if self.options.get("held_out") == 0 else "held-out samples"
        return (
            f"{self.name}: kept in {kept} of {len(repaired)} {what}; their mean squared error on {samples} "
            f"{before:.3g} → {after:.3g}"
        )

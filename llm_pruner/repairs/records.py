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


class RepairRecord(Part):
    """How the kept weights were repaired."""

    name: str
    """Of the repair."""
    options: dict[str, Any]
    """Defaults included."""
    linears: tuple[LinearRepairRecord, ...]
    """In the order in which they were repaired."""

    def note(self) -> str:
        """What it brought, for people."""
        if not self.linears:
            return f"{self.name}: no linear layer lost anything that it repairs"
        kept = sum(linear.kept for linear in self.linears)
        before = fmean(linear.before for linear in self.linears)
        after = fmean(linear.after if linear.kept else linear.before for linear in self.linears)
        samples = "the samples fitted" if self.options.get("held_out") == 0 else "held-out samples"
        return (
            f"{self.name}: kept in {kept} of {len(self.linears)} linear layers; their mean squared error on {samples} "
            f"{before:.3g} → {after:.3g}"
        )

"""What a repair brought, as part of the record of a variant."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
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


class CutRepairRecord(Part):
    """What a repair brought of consecutive removed layers, on held-out calibration samples.

    Errors are those of the residual stream behind them: each token's squared distance from the stream with these layers
    by its squared norm, the mean over tokens; or, where tokens count equally, the sum of distances by that of norms.
    """

    first: int
    """First removed layer, from 0."""
    last: int
    """Last removed layer."""
    before: float
    """Error without the repair."""
    after: float
    """Error with it."""
    kept: bool
    """Whether the repair was kept: where it lowers the error."""
    settings: dict[str, Any]
    """What was chosen: the ``ridge``, or the ``factor``."""


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
    cuts: tuple[CutRepairRecord, ...] = ()
    """The same; of a repair of depth pruning."""

    def note(self) -> str:
        """What it brought, for people."""
        parts: dict[str, Sequence[LinearRepairRecord | BlockRepairRecord | CutRepairRecord]] = {
            "linear layers": self.linears,
            "blocks": self.blocks,
            "runs of removed layers": self.cuts,
        }
        what, repaired = next((named for named in parts.items() if named[1]), ("", ()))
        if not repaired:
            return f"{self.name}: nothing that it repairs lost anything"
        kept = sum(part.kept for part in repaired)
        before = fmean(part.before for part in repaired)
        after = fmean(part.after if part.kept else part.before for part in repaired)
        samples = "the samples fitted" if self.options.get("held_out") == 0 else "held-out samples"
        return (
            f"{self.name}: kept in {kept} of {len(repaired)} {what}; their mean squared error on {samples} "
            f"{before:.3g} → {after:.3g}{self._chosen()}"
        )

    def _chosen(self) -> str:
        """How often each setting was chosen where the repair is kept, such as ``; ridge 0.01: 3, 0.1: 20``."""
        chosen: dict[str, Counter[str]] = defaultdict(Counter)
        settings = [part.settings for part in self.linears if part.kept]
        settings += [part.settings for part in self.cuts if part.kept]
        for own in settings:
            for key, value in own.items():
                chosen[key][f"{value:.4g}" if isinstance(value, float) else str(value)] += 1
        return "".join(
            f"; {key} {', '.join(f'{value}: {times}' for value, times in sorted(counted.items()))}"
            for key, counted in chosen.items()
        )

"""Results of a repair, as part of a variant's record."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from llm_pruner.system.records import Part


class LinearRepairRecord(Part):
    """Errors of one linear layer on the held-out part of the calibration samples, or on all if none are held out."""

    layer: int
    """Index of the decoder layer, from 0."""
    linear: str
    """Name of the linear layer within the decoder layer."""
    before: float
    """Squared error of the outputs without the repair, divided by the targets' squared norm."""
    after: float
    """The same error with the repair."""
    kept: bool
    """Whether the repair was kept, because it lowers the error."""
    settings: dict[str, Any]
    """Settings of the best candidate. ``wanted`` names its targets: ``own`` for the original weight's outputs on the
    same inputs, ``stream`` for the outputs that restore the dense model's residual stream."""


class BlockRepairRecord(Part):
    """Errors of the residual stream behind one block, on the held-out part of the calibration samples.

    A token's error is the squared distance from the dense model's stream divided by the squared norm of that stream;
    the record has the mean over tokens. If tokens weigh equally, the sum of distances is divided by the sum of norms.
    """

    layer: int
    """Index of the decoder layer, from 0."""
    block: str
    """``attention`` or ``mlp``."""
    before: float
    """Error without the repair."""
    after: float
    """Lowest error of all checks during the repair."""
    step: int
    """Updates before the check with the lowest error."""
    kept: bool
    """Whether the repair was kept, because it lowers the error."""


class CutRepairRecord(Part):
    """Errors of the residual stream behind a run of removed layers, on the held-out part of the calibration samples.

    A token's error is the squared distance from the stream with these layers divided by the squared norm of that
    stream; the record has the mean over tokens. If tokens weigh equally, the sum of distances is divided by the sum of
    norms.
    """

    first: int
    """Index of the first removed layer, from 0."""
    last: int
    """Index of the last removed layer."""
    before: float
    """Error without the repair."""
    after: float
    """Error with the repair."""
    kept: bool
    """Whether the repair was kept, because it lowers the error."""
    settings: dict[str, Any]
    """Chosen settings: the ``ridge`` or the ``factor``."""


class RepairRecord(Part):
    """The repair of a variant."""

    name: str
    """Name of the repair."""
    options: dict[str, Any]
    """Options of the repair, defaults included."""
    linears: tuple[LinearRepairRecord, ...] = ()
    """Repaired linear layers, in the order of repair; empty for other repairs."""
    blocks: tuple[BlockRepairRecord, ...] = ()
    """Repaired blocks, in the order of repair; empty for other repairs."""
    cuts: tuple[CutRepairRecord, ...] = ()
    """Repaired runs of removed layers, in the order of repair; empty for other repairs."""

    def note(self) -> str:
        """The repair's result, as one line for people."""
        parts: dict[str, Sequence[LinearRepairRecord | BlockRepairRecord | CutRepairRecord]] = {
            "linear layers": self.linears,
            "blocks": self.blocks,
            "runs of removed layers": self.cuts,
        }
        what, repaired = next((named for named in parts.items() if named[1]), ("", ()))
        if not repaired:
            return f"{self.name}: nothing to repair"
        kept = sum(part.kept for part in repaired)
        before = fmean(part.before for part in repaired)
        after = fmean(part.after if part.kept else part.before for part in repaired)
        samples = "the fitted samples" if self.options.get("held_out") == 0 else "held-out samples"
        return (
            f"{self.name}: kept in {kept} of {len(repaired)} {what}; mean squared error on {samples} "
            f"{before:.3g} → {after:.3g}{self._chosen()}"
        )

    def _chosen(self) -> str:
        """Number of kept repairs for each chosen setting, such as ``; ridge 0.01: 3, 0.1: 20``."""
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

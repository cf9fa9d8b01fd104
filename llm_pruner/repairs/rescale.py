from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm_pruner.models.layout import component, layer_prefix, output_linears
from llm_pruner.repairs.cuts import Cut, CutRepair, relative_error
from llm_pruner.repairs.records import CutRepairRecord

if TYPE_CHECKING:
    import torch

    from llm_pruner.models.architecture import Architecture


class Rescale(CutRepair[float]):
    """Scales the residual stream before a cut to its magnitude behind the removed layers.

    The factor is the mean magnitude of a sample's tokens behind the removed layers divided by their mean magnitude
    before them, as a mean over samples and hidden dimensions. The factor multiplies all weights that write the stream
    before the cut. Norms in front of the blocks cancel the factor, so the kept layers before the cut work as before. If
    input and output embedding are one tensor, the final norm divides by the factor.
    """

    title = "One factor for the stream before the removed layers"
    paper = "Prune&Comp: Free Lunch for Layer-Pruned LLMs via Iterative Pruning with Magnitude Compensation, 2025"

    def mend(self, cut: Cut) -> tuple[float | None, CutRepairRecord]:
        ratios, samples = 0.0, 0
        for decides, (entered, wanted) in cut.sides(cut.entered, cut.wanted):
            if not decides:
                before_cut, behind_cut = (states.double().abs().mean(1) for states in (entered, wanted))
                ratios += (behind_cut / before_cut.clamp(min=1e-30)).mean(1).sum().item()
                samples += len(entered)
        factor = ratios / samples
        before, after = (
            relative_error(
                (
                    (scale * states[0], states[1])
                    for decides, states in cut.sides(cut.entered, cut.wanted)
                    if decides or not self.options.held_out
                ),
                self.options.weigh,
            )
            for scale in (1.0, factor)
        )
        record = CutRepairRecord(
            first=cut.layers.start,
            last=cut.layers.stop - 1,
            before=before,
            after=after,
            kept=after < before,
            settings={"factor": factor},
        )
        return (factor if record.kept else None), record

    def mended_stream(self, cut: Cut, mending: float) -> list[torch.Tensor]:
        return [mending * batch for batch in cut.entered]

    def mended_weight(
        self, architecture: Architecture, name: str, tensor: torch.Tensor, mendings: Sequence[tuple[range, float]]
    ) -> torch.Tensor:
        index, part = component(name)
        if index is None:
            whole = math.prod(factor for _, factor in mendings)
            if part == "embedding":
                return (tensor.double() * whole).to(tensor.dtype)
            if part == "norm" and architecture.config.get("tie_word_embeddings"):
                return (tensor.double() / whole).to(tensor.dtype)
            return tensor
        inner, _, kind = name.removeprefix(layer_prefix(index)).rpartition(".")
        if kind not in ("weight", "bias") or inner not in output_linears([inner]).values():
            return tensor
        behind = math.prod(factor for layers, factor in mendings if layers.start > index)
        return (tensor.double() * behind).to(tensor.dtype)

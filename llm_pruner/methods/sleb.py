from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from llm_pruner.methods.ablation import losses_without_each
from llm_pruner.methods.base import CalibratedOptions, LayerScoreMethod
from llm_pruner.system.errors import PlanError
from llm_pruner.system.options import Count

if TYPE_CHECKING:
    from llm_pruner.scoring.stream import LayerStream


class RemovalOptions(CalibratedOptions):
    """Options of methods that remove one layer after the other."""

    steps: Count | None = None
    """Number of layers to rank, one pass each; no variant can remove more. Half of the layers, rounded up, by
    default."""


class RemovalOrder(LayerScoreMethod):
    """Removes one layer after the other, and chooses each on the model that remains.

    One order serves every amount: removing fewer layers stops earlier. A layer's score is its place in the order;
    unranked layers share the last place. One pass per removal bypasses every remaining layer, as in Ablation.
    """

    Options = RemovalOptions
    options: RemovalOptions

    @abstractmethod
    def choose(self, layers: Sequence[int], before: list[float], without: list[list[float]]) -> dict[str, Any]:
        """Choose the next layer to remove.

        Args:
            layers: indices of the remaining layers.
            before: loss of every sample with all remaining layers, in nats.
            without: for each remaining layer, the loss of every sample with this layer bypassed.

        Returns:
            The layer's ``index``, the ``loss`` without the layer, and further values for the scores file.
        """

    def layer_scores(self, stream: LayerStream) -> list[float]:
        return [entry["score"] for entry in self.layer_entries(stream)]

    def layer_entries(self, stream: LayerStream) -> list[dict[str, Any]]:
        """Entries with the ``loss`` of a ranked layer: that of the model without it and the layers ranked before it."""
        left, steps = list(stream.layers), self.ranked(len(stream.layers))
        entries = {index: {"index": index, "score": float(steps)} for index in left}
        for step in range(steps):
            before, *without = losses_without_each(stream.over(left))
            chosen = self.choose(left, before, without)
            entries[chosen["index"]] |= {"score": float(step), **chosen}
            left.remove(chosen["index"])
        return list(entries.values())

    def ranked(self, num_layers: int) -> int:
        """Number of layers to rank; at least one layer always stays."""
        return min(self.options.steps or -(-num_layers // 2), num_layers - 1)

    def problems_with(self, entry: Mapping[str, Any], num_layers: int) -> list[str]:
        loss = entry.get("loss", 0.0)
        return [] if type(loss) is float else [f"loss: must be a number, not {loss!r}"]

    def select(self, layers: Sequence[Mapping[str, Any]], count: int) -> list[int]:
        ranked = [entry for entry in layers if "loss" in entry]
        if len(ranked) < count:
            raise PlanError(
                f"{self.name} ranked {len(ranked)} of the removable layers, but {count} must be removed; "
                "rank more with the option steps"
            )
        return super().select(ranked, count)

    def check_count(self, num_layers: int, count: int) -> None:
        ranked = self.ranked(num_layers)
        if count > ranked:
            raise PlanError(
                f"{self.name} ranks {ranked} of the model's {num_layers} layers; set the option steps to {count}"
            )

    def naive_evaluations(self, num_layers: int) -> int:
        """Evaluations of the whole model, and of the model without each candidate of each removal."""
        left = range(num_layers, num_layers - self.ranked(num_layers), -1)
        return num_layers + sum(layers * (layers - 1) for layers in left)


class SLEB(RemovalOrder):
    """Removes the layer whose removal raises the mean next-token loss least, and repeats on the remaining model."""

    name = "SLEB"
    title = "Layers whose removal raises the loss least, one after the other"
    paper = (
        "Song et al., SLEB: Streamlining LLMs through Redundancy Verification and Elimination of Transformer Blocks, "
        "2024 (arXiv:2402.09025)"
    )

    def choose(self, layers: Sequence[int], before: list[float], without: list[list[float]]) -> dict[str, Any]:
        loss, negative = min((fmean(losses), -index) for index, losses in zip(layers, without, strict=True))
        return {"index": -negative, "loss": loss}

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from llm_pruner.methods.base import LayerScoreMethod

if TYPE_CHECKING:
    from llm_pruner.scoring.stream import LayerStream


class Ablation(LayerScoreMethod):
    """Increase of the mean next-token loss, in nats, when a layer is bypassed.

    The hidden states before a bypassed layer are those of the whole model. One pass therefore carries the states of the
    whole model, and for each bypassed layer the states after it: L·(L+1)/2 layer evaluations for L layers instead of
    L². Each layer is loaded once; hidden states are kept L+1 times.
    """

    name = "Ablation"
    title = "Layers whose removal raises the loss least"
    paper = "Kim et al., Shortened LLaMA: A Simple Depth Pruning for Large Language Models, 2024 (arXiv:2402.02834)"

    def layer_scores(self, stream: LayerStream) -> list[float]:
        whole, *without = losses_without_each(stream)
        return [fmean(losses) - fmean(whole) for losses in without]

    @staticmethod
    def naive_evaluations(num_layers: int) -> int:
        return num_layers * num_layers


def losses_without_each(stream: LayerStream) -> list[list[float]]:
    """Mean next-token loss of every sample, in nats.

    Returns:
        One list of losses with all of the stream's layers, then one list for each layer, with this layer bypassed.
    """
    for layer in stream:
        layer.branch_off()
    return stream.losses(*stream.endings)

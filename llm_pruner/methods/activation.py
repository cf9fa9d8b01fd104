from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.methods.base import LayerScoreMethod

if TYPE_CHECKING:
    from llm_pruner.scoring.stream import LayerStream


class Activation(LayerScoreMethod):
    """L2 norm of a layer's output, mean over all tokens.

    The residual stream grows with depth in most models, so late layers have high scores.
    """

    name = "Activation"
    title = "Layers with the smallest output"
    paper = ""

    def layer_scores(self, stream: LayerStream) -> list[float]:
        return [layer.token_mean(lambda _, after: after.norm(dim=-1)) for layer in stream]

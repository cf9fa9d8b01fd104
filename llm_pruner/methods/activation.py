from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.methods.base import LayerScoreMethod

if TYPE_CHECKING:
    from llm_pruner.streaming import LayerStream


class Activation(LayerScoreMethod):
    """Mean over all tokens of the L2 norm of what leaves a layer.

    The residual stream grows with depth in most models, so this calls late layers important.
    """

    name = "Activation"
    title = "Layers whose output is smallest"
    paper = ""

    def layer_scores(self, stream: LayerStream) -> list[float]:
        scores = []
        for layer in stream:
            total, tokens = 0.0, 0
            for _, after in layer.run():
                norms = after.float().norm(dim=-1)
                total += norms.double().sum().item()
                tokens += norms.numel()
            scores.append(total / tokens)
        return scores

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.methods.base import LayerScoreMethod

if TYPE_CHECKING:
    from llm_pruner.scoring.stream import LayerStream


class Activation(LayerScoreMethod):
    """Mean over all tokens of the L2 norm of what leaves a layer.

    The residual stream grows with depth in most models, so this calls late layers important.
    """

    name = "Activation"
    title = "Layers whose output is smallest"
    paper = ""

    def layer_scores(self, stream: LayerStream) -> list[float]:
        return [layer.token_mean(lambda _, after: after.norm(dim=-1)) for layer in stream]

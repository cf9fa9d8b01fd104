from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from llm_pruner.methods.base import LayerScoreMethod

if TYPE_CHECKING:
    from llm_pruner.scoring.stream import LayerStream


class ShortGPT(LayerScoreMethod):
    """Block influence: 1 − mean over all tokens of the cosine between a layer's input and output.

    The whole model is scored once. The last layer's output is taken before the final norm.
    """

    name = "ShortGPT"
    title = "Layers that change the hidden state least (block influence)"
    paper = "Men et al., ShortGPT: Layers in Large Language Models are More Redundant, 2024 (arXiv:2403.03853)"

    def layer_scores(self, stream: LayerStream) -> list[float]:
        from torch.nn.functional import cosine_similarity

        return [1.0 - layer.token_mean(partial(cosine_similarity, dim=-1)) for layer in stream]

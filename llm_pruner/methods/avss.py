from __future__ import annotations

from typing import TYPE_CHECKING

from llm_pruner.methods.base import LayerScoreMethod

if TYPE_CHECKING:
    from llm_pruner.scoring.stream import LayerStream

NEAR_ZERO = 1e-5


class AVSS(LayerScoreMethod):
    """Variance of a layer's output over its sparsity, divided by the sum over all layers.

    The variance is that of the token mean, across the hidden dimension. The sparsity is the share of activations with
    |a| < 1e-5; at least one is assumed, so that the score is finite. The last layer's output is taken before the final
    norm. Variance grows with the residual stream, so early layers score lowest in many models.
    """

    name = "AVSS"
    title = "Layers with the smallest variance of the output over its sparsity"
    paper = (
        "Song et al., AVSS: Layer Importance Evaluation in Large Language Models via Activation Variance-Sparsity "
        "Analysis, 2024 (arXiv:2411.02117)"
    )

    def layer_scores(self, stream: LayerStream) -> list[float]:
        import torch

        scores = []
        for layer in stream:
            total, tokens, small = torch.zeros(()), 0, 0
            for _, after in layer.run():
                total = total.to(after.device) + after.double().sum(dim=(0, 1))
                tokens += after.shape[0] * after.shape[1]
                small += int((after.abs() < NEAR_ZERO).sum())
            sparsity = max(small, 1) / (tokens * len(total))
            scores.append((total / tokens).var(correction=0).item() / sparsity)
        return (torch.tensor(scores, dtype=torch.float64) / sum(scores)).tolist()

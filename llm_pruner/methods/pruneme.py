from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llm_pruner.methods.base import LayerScoreMethod

if TYPE_CHECKING:
    from llm_pruner.scoring.stream import LayerStream


class PruneMe(LayerScoreMethod):
    """Angular distance between the input and the output of n consecutive layers, at the last token: arccos(cosine)/π,
    mean over samples.

    The consecutive layers with the smallest distance are removed, of equals the later. One pass gives the distances for
    every n; a layer's score is the distance for n = 1. The last layer's output is taken before the final norm.
    """

    name = "PruneMe"
    title = "Consecutive layers that rotate the hidden state least (angular distance)"
    paper = "Gromov et al., The Unreasonable Ineffectiveness of the Deeper Layers, 2024 (arXiv:2403.17887)"

    parts = ("layer",)

    def layer_scores(self, stream: LayerStream) -> list[float]:
        return [entry["score"] for entry in self.layer_entries(stream)]

    def layer_entries(self, stream: LayerStream) -> list[dict[str, Any]]:
        """Entries with ``distances``: those over 1, 2, … consecutive layers from this layer on."""
        import torch

        states: list[torch.Tensor] = []
        for layer in stream:
            for batches in [layer.outputs()] if states else [layer.inputs, layer.outputs()]:
                states.append(torch.cat([hidden[:, -1].double() for hidden in batches]))
        entries = []
        for index, entering in enumerate(states[:-1]):
            cosines = torch.nn.functional.cosine_similarity(entering, torch.stack(states[index + 1 :]), dim=-1)
            distances = (cosines.clamp(-1, 1).arccos() / math.pi).mean(dim=1).tolist()
            entries.append({"index": index, "score": distances[0], "distances": distances})
        return entries

    def problems_with(self, entry: Mapping[str, Any], num_layers: int) -> list[str]:
        distances, wanted = entry.get("distances"), num_layers - entry["index"]
        if isinstance(distances, list) and len(distances) == wanted and all(type(each) is float for each in distances):
            return []
        return [f"distances: must be {wanted} numbers, not {distances!r}"]

    def select(self, layers: Sequence[Mapping[str, Any]], count: int) -> list[int]:
        blocks = zip(layers, layers[count - 1 :], strict=False)
        starts = [first for first, last in blocks if last["index"] - first["index"] == count - 1]
        nearest = min(starts, key=lambda entry: (entry["distances"][count - 1], -entry["index"]))
        return list(range(nearest["index"], nearest["index"] + count))

"""Cut masked groups out of a classifier. No other module changes the sizes of its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from llm_pruner.encoders.architecture import EncoderShape, Widths
from llm_pruner.encoders.folder import build_classifier
from llm_pruner.models.layout import expand

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def cut_classifier(
    shape: EncoderShape,
    weights: Mapping[str, torch.Tensor],
    heads: Sequence[Sequence[int]],
    neurons: Sequence[Sequence[int]],
) -> PreTrainedModel:
    """Build the classifier without the cut groups; its logits equal the logits of the masked classifier.

    Args:
        shape: shape before the cut.
        weights: parameters and buffers before the cut, by name.
        heads, neurons: numbers of the kept heads and neurons, a list for each layer.
    """
    family = shape.family
    smaller = dict(weights)
    for index in range(len(shape.layers)):
        prefix = f"{family.layers}.{index}."
        rows = torch.tensor(expand(heads[index], shape.head_dim))
        channels = torch.tensor(neurons[index])
        for names, kept in ((family.inputs, rows), ((family.ffn_input,), channels)):
            for name in names:
                for kind in ("weight", "bias"):
                    key = f"{prefix}{name}.{kind}"
                    smaller[key] = smaller[key].cpu().index_select(0, kept)
        for name, kept in ((family.output, rows), (family.ffn_output, channels)):
            # the bias belongs to the residual stream, not to the groups
            key = f"{prefix}{name}.weight"
            smaller[key] = smaller[key].cpu().index_select(1, kept)
    widths = [Widths(len(own), len(channels)) for own, channels in zip(heads, neurons, strict=True)]
    return build_classifier(EncoderShape(shape.narrowed(widths)), smaller)

"""Masks → smaller matrices: the one place where a classifier's weights change their shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from llm_pruner.encoders.architecture import Encoder, Widths
from llm_pruner.encoders.folder import build_classifier
from llm_pruner.models.layout import expand

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def cut_classifier(
    encoder: Encoder,
    weights: Mapping[str, torch.Tensor],
    heads: Sequence[Sequence[int]],
    neurons: Sequence[Sequence[int]],
) -> PreTrainedModel:
    """The classifier that is left; its logits are those of the masked one.

    Args:
        encoder: the shape of what is cut.
        weights: its parameters and buffers, by name.
        heads, neurons: numbers of those that stay, for every layer.
    """
    family = encoder.family
    smaller = dict(weights)
    for index in range(len(encoder.layers)):
        prefix = f"{family.layers}.{index}."
        rows = torch.tensor(expand(heads[index], encoder.head_dim))
        channels = torch.tensor(neurons[index])
        for names, kept in ((family.inputs, rows), ((family.ffn_input,), channels)):
            for name in names:
                for kind in ("weight", "bias"):
                    key = f"{prefix}{name}.{kind}"
                    smaller[key] = smaller[key].cpu().index_select(0, kept)
        for name, kept in ((family.output, rows), (family.ffn_output, channels)):
            # the bias belongs to the residual stream, not to what goes
            key = f"{prefix}{name}.weight"
            smaller[key] = smaller[key].cpu().index_select(1, kept)
    widths = [Widths(len(own), len(channels)) for own, channels in zip(heads, neurons, strict=True)]
    return build_classifier(Encoder(encoder.narrowed(widths)), smaller)

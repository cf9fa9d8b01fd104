"""Small random models, and what they compute."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from tests.tiny.families import FAMILIES, SHAPE


def build_model(family: str, **overrides: Any) -> Any:
    """A random model with weights large enough that every unit changes the output."""
    import transformers

    config_class = getattr(transformers, f"{FAMILIES[family].prefix}Config")
    model_class = getattr(transformers, f"{FAMILIES[family].prefix}ForCausalLM")
    model = model_class(config_class(**{**SHAPE, **FAMILIES[family].own, **overrides})).eval()
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        mean = 1.0 if "norm" in name else 0.0
        parameter.data.normal_(mean, 0.15, generator=generator)
    return model


def logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Float [rows, length, vocabulary]; nothing is cached."""
    with torch.inference_mode():
        return model(input_ids=tokens, use_cache=False).logits


def hidden_states(model: Any, tokens: torch.Tensor) -> list[torch.Tensor]:
    """What enters each layer, and what leaves the last one before the final norm, by hooks."""
    seen = []
    handles = [layer.register_forward_pre_hook(lambda _m, args: seen.append(args[0])) for layer in model.model.layers]
    handles.append(model.model.norm.register_forward_pre_hook(lambda _m, args: seen.append(args[0])))
    with torch.no_grad():
        model(input_ids=tokens, use_cache=False)
    for handle in handles:
        handle.remove()
    return seen


def project_out(model: Any, tokens: torch.Tensor, widths: list[int]) -> Any:
    """The dense model with all but ``widths`` principal components projected out at every position, nothing rotated.

    Brute force: each position's components come from a forward pass of the whole model with all positions before it
    projected.
    """
    projections: list[Any] = []
    states: list[torch.Tensor] = []

    def at(position: int, hidden: torch.Tensor) -> torch.Tensor:
        if position < len(projections):
            return hidden @ projections[position]
        if position == len(projections):
            states.append(hidden)
        return hidden

    def forward(index: int, layer: Any, hidden: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        hidden = at(2 * index, hidden)
        hidden = hidden + layer.self_attn(hidden_states=layer.input_layernorm(hidden), **kwargs)[0]
        hidden = at(2 * index + 1, hidden)
        return hidden + layer.mlp(layer.post_attention_layernorm(hidden))

    for index, layer in enumerate(model.model.layers):
        layer.forward = partial(forward, index, layer)
    for width in widths[:-1]:
        states.clear()
        with torch.inference_mode():
            model(input_ids=tokens, use_cache=False)
            seen = states[0].flatten(0, 1).double()
            components = torch.linalg.svd(seen, full_matrices=True).Vh[:width]
            projections.append((components.mT @ components).to(states[0].dtype))
    return model

"""A family's own code before and after the decoder layers, as a model without weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from llm_pruner.models.layout import EMBEDDING, FINAL_NORM, HEAD, backbone, decoder_layers

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from llm_pruner.models.checkpoint import Weights


def skeleton(model_class: Any, config: PretrainedConfig) -> Any:
    """A causal model without weights, in evaluation mode."""
    with torch.device("meta"):
        return model_class(config).eval()


def take_layers(model: Any) -> list[nn.Module]:
    """Take the decoder layers out of a skeleton."""
    layers = list(decoder_layers(model))
    backbone(model).layers = nn.ModuleList()
    return layers


def enter(
    model: Any, weights: Weights, batches: tuple[torch.Tensor, ...], layers: int, device: str
) -> tuple[list[torch.Tensor], list[dict[int, dict[str, Any]]]]:
    """Run the family's code before the first layer on token ids.

    Args:
        model: a skeleton without its layers; its embedding gets weights and keeps them.
        batches: int64 [batch, length] each.
        layers: number of layers.

    Returns:
        Hidden states, and each layer's arguments (mask, positions) by batch size.
    """
    base = backbone(model)
    arguments: list[dict[int, dict[str, Any]]] = [{} for _ in range(layers)]

    class Recorder(nn.Module):
        """Placeholder for a layer: records its arguments and returns the hidden states."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

        def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            arguments[self.index][hidden_states.shape[0]] = kwargs
            return hidden_states

    base.norm = nn.Identity()
    base.layers = nn.ModuleList()
    assign(base.get_submodule(_within(EMBEDDING)), weights.under(EMBEDDING), device)
    compute_buffers(model, base, device)
    base.layers = nn.ModuleList(Recorder(index) for index in range(layers))
    hidden = [base(input_ids=batch.to(device), use_cache=False).last_hidden_state for batch in batches]
    return hidden, arguments


class _FinalNorm(nn.Module):
    """Placeholder for everything before the output weights: only norms the hidden states of the last layer."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, inputs_embeds: torch.Tensor, **_: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPast

        return BaseModelOutputWithPast(last_hidden_state=self.norm(inputs_embeds))


def output_head(model: Any, weights: Weights, device: str) -> nn.Module:
    """The family's own causal model as a function of the last layer's outputs, with scales and caps of logits.

    Args:
        model: a skeleton, changed in place.

    Returns:
        A module to be called with ``inputs_embeds`` [batch, length, hidden]; its output has ``logits``.
    """
    base = backbone(model)
    norm = base.get_submodule(_within(FINAL_NORM))
    assign(norm, weights.under(FINAL_NORM), device)
    assign(model.get_submodule(HEAD), weights.under(HEAD) or weights.under(EMBEDDING), device)
    model.model = _FinalNorm(norm)
    compute_buffers(model, model, device)
    model.requires_grad_(False)
    return model  # type: ignore[no-any-return]


def compute_buffers(model: Any, within: nn.Module, device: str) -> None:
    """Let the family's code compute the buffers that no checkpoint stores, such as frequencies of rotary positions.

    Args:
        model: the skeleton, whose code computes the buffers.
        within: the part of the skeleton to change. Its parameters have values already, and keep them.
    """
    for module in within.modules():
        empty = {name: buffer for name, buffer in module.named_buffers(recurse=False) if buffer.is_meta}
        if not empty:
            continue
        for parameter in module.parameters(recurse=False):
            parameter._is_hf_initialized = True  # type: ignore[attr-defined]  # lets transformers keep the value
        for name, buffer in empty.items():
            module._buffers[name] = torch.empty_like(buffer, device=device)
        model._init_weights(module)


def assign(module: nn.Module, state: Mapping[str, torch.Tensor], device: str) -> None:
    """Move parameters to a device and assign them to a module and its submodules."""
    module.load_state_dict({name: tensor.to(device) for name, tensor in state.items()}, assign=True)


def _within(name: str) -> str:
    """Convert a name in the model to a name in its backbone."""
    return name.partition(".")[2]

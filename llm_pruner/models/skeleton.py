"""A family's own code in front of the decoder layers and behind them, around weights that come and go."""

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
    """The decoder layers of a skeleton, taken out of it."""
    layers = list(decoder_layers(model))
    backbone(model).layers = nn.ModuleList()
    return layers


def enter(
    model: Any, weights: Weights, batches: tuple[torch.Tensor, ...], layers: int, device: str
) -> tuple[list[torch.Tensor], list[dict[int, dict[str, Any]]]]:
    """What the family's code makes of token ids in front of the first layer.

    Args:
        model: a skeleton whose layers are taken out; its embedding gets weights, and stays.
        batches: int64 [batch, length] each.
        layers: how many there are.

    Returns:
        Hidden states, and each layer's arguments (mask, positions) by batch size.
    """
    base = backbone(model)
    arguments: list[dict[int, dict[str, Any]]] = [{} for _ in range(layers)]

    class Recorder(nn.Module):
        """Stands in for a layer: notes what it is called with and passes the hidden states on."""

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
    """Stands in for everything in front of the output weights: hidden states of the last layer are normed."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, inputs_embeds: torch.Tensor, **_: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPast

        return BaseModelOutputWithPast(last_hidden_state=self.norm(inputs_embeds))


def output_head(model: Any, weights: Weights, device: str) -> nn.Module:
    """The family's own causal model as a function of what leaves the last layer: scales and caps of logits included.

    Args:
        model: a skeleton, which is changed.

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
        model: the skeleton, which knows how.
        within: the part of it whose parameters have their values already; these are left alone.
    """
    for module in within.modules():
        empty = {name: buffer for name, buffer in module.named_buffers(recurse=False) if buffer.is_meta}
        if not empty:
            continue
        for parameter in module.parameters(recurse=False):
            parameter._is_hf_initialized = True  # type: ignore[attr-defined]  # how transformers is told to keep it
        for name, buffer in empty.items():
            module._buffers[name] = torch.empty_like(buffer, device=device)
        model._init_weights(module)


def assign(module: nn.Module, state: Mapping[str, torch.Tensor], device: str) -> None:
    """Give a module, with all it holds, these parameters, moved to the device."""
    module.load_state_dict({name: tensor.to(device) for name, tensor in state.items()}, assign=True)


def _within(name: str) -> str:
    """A name in the model as a name in its backbone."""
    return name.partition(".")[2]

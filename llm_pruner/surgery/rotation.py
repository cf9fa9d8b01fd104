"""Calibration for slicing, and weights in the basis of the slices. All sums and products are float64.

While activations flow, what is sliced off is projected out in the model's own basis, which computes the same as the
sliced model does; only what is written is in the new bases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from llm_pruner.models.architecture import ATTENTION_INPUTS, ATTENTION_OUTPUT, MLP_INPUTS, MLP_OUTPUT
from llm_pruner.scoring.stream import StreamedLayer

ROWS_AT_ONCE = 8192
"""Of an embedding being rotated, so that it is never held whole in float64."""

_ENTERING = {f"self_attn.{name}": "input_layernorm" for name in ATTENTION_INPUTS} | {
    f"mlp.{name}": "post_attention_layernorm" for name in MLP_INPUTS
}
"""The norm in front of each linear layer that reads the residual stream."""
_LEAVING = (f"self_attn.{ATTENTION_OUTPUT}", f"mlp.{MLP_OUTPUT}")


def second_moments(batches: Sequence[torch.Tensor]) -> torch.Tensor:
    """Sum of x·xᵀ over all tokens: float64 [hidden, hidden].

    Args:
        batches: hidden states, each [batch, length, hidden].
    """
    total = torch.zeros(2 * batches[0].shape[-1:], dtype=torch.float64, device=batches[0].device)
    for hidden in batches:
        tokens = hidden.flatten(0, -2).double()
        total += tokens.mT @ tokens
    return total


def project(batches: list[torch.Tensor], basis: torch.Tensor) -> None:
    """Take from hidden states, batch by batch in place, what lies outside the kept directions.

    Args:
        batches: each [batch, length, hidden], in the model's own basis before and after.
        basis: float64 [hidden, width], orthonormal columns.
    """
    if basis.shape[0] == basis.shape[1]:
        return
    dtype = torch.promote_types(batches[0].dtype, torch.float32)
    projection = (basis @ basis.mT).to(dtype)
    for number, hidden in enumerate(batches):
        batches[number] = (hidden.to(dtype) @ projection).to(hidden.dtype)


def add_mlp(layer: StreamedLayer, batches: list[torch.Tensor]) -> None:
    """Turn hidden states between a layer's attention and its MLP, batch by batch in place, into those behind it."""
    module: Any = layer.module
    with torch.no_grad():
        for number, hidden in enumerate(batches):
            batches[number] = hidden + module.mlp(module.post_attention_layernorm(hidden))


def rotated_layer(
    parameters: dict[str, torch.Tensor], enter: torch.Tensor, middle: torch.Tensor, leave: torch.Tensor
) -> dict[str, torch.Tensor]:
    """A decoder layer's parameters in new bases: gains folded in, the shortcuts added. In the stored dtypes.

    Args:
        parameters: of the dense layer, by name within it.
        enter, middle, leave: bases float64 [hidden, width] in front of the layer, between attention and MLP, and
            behind it.
    """
    gains = {norm: parameters[f"{norm}.weight"].double() for norm in set(_ENTERING.values())}
    rotated = {}
    for name, tensor in parameters.items():
        linear, _, kind = name.rpartition(".")
        attention = linear.startswith("self_attn")
        if linear in gains:
            continue
        if linear in _ENTERING and kind == "weight":
            basis = enter if attention else middle
            rotated[name] = (tensor.double() * gains[_ENTERING[linear]] @ basis).to(tensor.dtype)
        elif linear in _LEAVING:
            basis = middle if attention else leave
            rotated[name] = (basis.mT @ tensor.double()).to(tensor.dtype)
        else:
            # biases that stay inside a block, and norms of queries and keys
            rotated[name] = tensor
    dtype = parameters[f"{_LEAVING[0]}.weight"].dtype
    rotated["attn_shortcut.weight"] = (middle.mT @ enter).to(dtype)
    rotated["mlp_shortcut.weight"] = (leave.mT @ middle).to(dtype)
    return rotated


def rotated_embedding(weight: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """An input embedding [vocabulary, hidden] in a basis [hidden, width]; on the CPU, in the stored dtype."""
    return torch.cat(
        [(rows.to(basis.device).double() @ basis).to(weight.dtype).cpu() for rows in weight.split(ROWS_AT_ONCE)]
    )

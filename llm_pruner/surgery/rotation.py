"""Calibration for slicing, and weights in the bases of the slices. All sums and products are float64.

During calibration the removed directions are projected out in the model's own basis, which gives the same results as
the sliced model. Only the written weights are in the new bases.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llm_pruner.models.layout import BLOCKS, LINEARS, NORMS, SHORTCUTS, block_of_linear, output_linears
from llm_pruner.scoring.stream import StreamedLayer

ROWS_AT_ONCE = 8192
"""Rows of an embedding to rotate at once, which limits the memory of float64."""

_LEAVING = output_linears(LINEARS)
"""The linear layer of each block that writes the residual stream."""
_NORM = dict(zip(BLOCKS, NORMS[0].names, strict=True))
_ENTERING = {name: _NORM[block_of_linear(name)] for name in LINEARS if name not in _LEAVING.values()}
"""The norm in front of each linear layer that reads the residual stream."""


def second_moments(batches: Sequence[torch.Tensor]) -> torch.Tensor:
    """Sum of x·xᵀ over all tokens, float64 [hidden, hidden].

    Args:
        batches: hidden states, each [batch, length, hidden].
    """
    total = torch.zeros(2 * batches[0].shape[-1:], dtype=torch.float64, device=batches[0].device)
    for hidden in batches:
        tokens = hidden.flatten(0, -2).double()
        total += tokens.mT @ tokens
    return total


def project(batches: list[torch.Tensor], basis: torch.Tensor) -> None:
    """Remove the directions outside the basis from hidden states, batch by batch in place.

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
    """Run hidden states through a layer's MLP block, batch by batch in place.

    Args:
        layer: the layer on the device.
        batches: the residual stream between attention and MLP, each [batch, length, hidden].
    """
    for number, hidden in enumerate(layer.through("mlp", batches)):
        batches[number] = hidden


def rotated_layer(
    parameters: dict[str, torch.Tensor], enter: torch.Tensor, middle: torch.Tensor, leave: torch.Tensor
) -> dict[str, torch.Tensor]:
    """A decoder layer's parameters in new bases, in the stored dtypes, with norm gains folded in and shortcuts added.

    Args:
        parameters: parameters of the dense layer, by name within the layer.
        enter, middle, leave: bases float64 [hidden, width] in front of the layer, between attention and MLP, and
            behind it.
    """
    gains = {norm: parameters[f"{norm}.weight"].double() for norm in set(_ENTERING.values())}
    rotated = {}
    for name, tensor in parameters.items():
        linear, _, kind = name.rpartition(".")
        attention = block_of_linear(linear) == "attention"
        if linear in gains:
            continue
        if linear in _ENTERING and kind == "weight":
            basis = enter if attention else middle
            rotated[name] = (tensor.double() * gains[_ENTERING[linear]] @ basis).to(tensor.dtype)
        elif linear in _LEAVING.values():
            basis = middle if attention else leave
            rotated[name] = (basis.mT @ tensor.double()).to(tensor.dtype)
        else:
            # biases that stay inside a block, and norms of queries and keys
            rotated[name] = tensor
    dtype = parameters[f"{_LEAVING['attention']}.weight"].dtype
    for shortcut, after, before in zip(SHORTCUTS, (middle, leave), (enter, middle), strict=True):
        rotated[f"{shortcut}.weight"] = (after.mT @ before).to(dtype)
    return rotated


def rotated_embedding(weight: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """An input embedding [vocabulary, hidden] in a basis [hidden, width]; on the CPU, in the stored dtype."""
    return torch.cat(
        [(rows.to(basis.device).double() @ basis).to(weight.dtype).cpu() for rows in weight.split(ROWS_AT_ONCE)]
    )

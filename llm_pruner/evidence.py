"""What a saliency may look at besides the weight: the inputs of its linear layer, or its gradient."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_pruner.models.architecture import LINEARS

if TYPE_CHECKING:
    import torch

    from llm_pruner.streaming import StreamedLayer


@dataclass(frozen=True)
class Evidence:
    """Evidence about one linear layer of a decoder block."""

    layer: int
    linear: str
    """Name within the block, such as ``mlp.up_proj``."""
    input_norm: torch.Tensor | None = None
    """float32 [in_features]: root of the mean over samples of each input feature's squared L2 norm."""
    gradient: torch.Tensor | None = None
    """[out_features, in_features]: gradient of the mean next-token loss."""


def input_norms(layer: StreamedLayer) -> dict[str, torch.Tensor]:
    """Norms of the inputs of every linear layer of a block, from one pass of all calibration samples.

    Returns:
        float32 [in_features] by linear name.
    """

    sums: dict[str, torch.Tensor] = {}
    samples = sum(hidden.shape[0] for hidden in layer.inputs)

    def accumulate(name: str):
        def hook(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            squared = inputs[0].float().square().sum(dim=(0, 1))
            sums[name] = sums[name] + squared if name in sums else squared

        return hook

    with _hooks(layer, accumulate):
        for _ in layer.run():
            pass
    return {name: (total / samples).sqrt() for name, total in sums.items()}


@contextmanager
def _hooks(layer: StreamedLayer, make) -> Iterator[None]:
    handles = [layer.module.get_submodule(name).register_forward_pre_hook(make(name)) for name in LINEARS]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def loss_gradients(
    folder: str | os.PathLike[str],
    input_ids: torch.Tensor,
    *,
    device: str = "cpu",
    batch_size: int = 8,
    progress: bool = False,
) -> Iterator[tuple[int, dict[str, tuple[torch.Tensor, torch.Tensor]]]]:
    """Gradients of the mean next-token loss over ``input_ids``, one backward pass for all layers.

    Args:
        folder: model folder; the whole model and the gradients of its linear layers are held on ``device``.
        input_ids: int64 [samples, length].

    Yields:
        (layer, {linear: (weight, gradient)}), both [out_features, in_features].
    """
    from tqdm import tqdm

    from llm_pruner.models.checkpoint import load

    model = load(folder, device=device).requires_grad_(False)
    layers = model.model.layers
    for layer in layers:
        for name in LINEARS:
            layer.get_submodule(name).weight.requires_grad_(True)
    batches = tqdm(input_ids.split(batch_size), desc="gradients", unit="batch", disable=not progress)
    for batch in batches:
        ids = batch.to(device)
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        (loss * len(batch) / len(input_ids)).backward()
    for index, layer in enumerate(layers):
        linears = {name: layer.get_submodule(name).weight for name in LINEARS}
        yield index, {name: (weight.detach(), weight.grad) for name, weight in linears.items()}

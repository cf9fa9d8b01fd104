"""What a saliency may look at besides the weight: the inputs of its linear layer, or its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from llm_pruner.models.architecture import LINEARS, read_architecture
from llm_pruner.models.checkpoint import WeightReader, load
from llm_pruner.progress import track
from llm_pruner.streaming import LayerStream, StreamedLayer

if TYPE_CHECKING:
    import torch

Kind = Literal["none", "input_norm", "gradient", "curvature"]


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
    curvature: torch.Tensor | None = None
    """[out_features, in_features]: mean over samples of the squared gradient of each sample's loss, which stands in for
    the diagonal of the Hessian."""


def _unobserved() -> None:
    """Changing weights that no later layer is computed from needs no telling."""


@dataclass(frozen=True)
class LayerEvidence:
    """A decoder layer's parameters, and evidence about its linear layers."""

    index: int
    parameters: dict[str, torch.Tensor]
    """By name within the layer. Who changes them in place calls ``changed``, and later layers see the change."""
    evidence: dict[str, Evidence]
    """By name of the linear layer."""
    changed: Callable[[], None] = _unobserved

    def linears(self) -> Iterator[tuple[torch.Tensor, Evidence]]:
        """(weight [out_features, in_features], evidence) of every linear layer."""
        for name, evidence in self.evidence.items():
            yield self.parameters[f"{name}.weight"], evidence


def gather(
    kind: Kind,
    base: Path,
    input_ids: torch.Tensor | None,
    *,
    device: str = "cpu",
    batch_size: int = 8,
    progress: bool = False,
    description: str = "layers",
) -> Iterator[LayerEvidence]:
    """Walk a model's layers with one kind of evidence, holding as little of the model as that kind allows.

    Args:
        kind: ``none`` reads weights alone, ``input_norm`` streams calibration samples through one layer at a time,
            ``gradient`` needs the whole model and its gradients, ``curvature`` a second copy of them.
        base: model folder.
        input_ids: int64 [samples, length]; not looked at for ``none``.
    """
    if kind == "none":
        with WeightReader(base) as weights:
            for index in range(read_architecture(base).num_layers):
                yield LayerEvidence(index, weights.layer(index), {name: Evidence(index, name) for name in LINEARS})
        return
    assert input_ids is not None
    if kind in ("gradient", "curvature"):
        yield from loss_gradients(
            base, input_ids, curvature=kind == "curvature", device=device, batch_size=batch_size, progress=progress
        )
        return
    for layer in LayerStream(
        base, input_ids, device=device, batch_size=batch_size, progress=progress, description=description
    ):
        norms = input_norms(layer)
        evidence = {name: Evidence(layer.index, name, input_norm=norm) for name, norm in norms.items()}
        yield LayerEvidence(layer.index, _parameters(layer.module), evidence, layer.changed)


def _parameters(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.data for name, parameter in module.named_parameters()}


def input_norms(layer: StreamedLayer) -> dict[str, torch.Tensor]:
    """Norms of the inputs of every linear layer of a block, from one pass of all calibration samples.

    Returns:
        float32 [in_features] by linear name.
    """

    sums: dict[str, torch.Tensor] = {}
    samples = sum(hidden.shape[0] for hidden in layer.inputs)

    def accumulate(name: str) -> Callable[..., None]:
        def hook(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            squared = inputs[0].float().square().sum(dim=(0, 1))
            sums[name] = sums[name] + squared if name in sums else squared

        return hook

    with _hooks(layer, accumulate):
        for _ in layer.run():
            pass
    return {name: (total / samples).sqrt() for name, total in sums.items()}


@contextmanager
def _hooks(layer: StreamedLayer, make: Callable[[str], Callable[..., None]]) -> Iterator[None]:
    handles = [layer.module.get_submodule(name).register_forward_pre_hook(make(name)) for name in LINEARS]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def loss_gradients(
    base: Path,
    input_ids: torch.Tensor,
    *,
    curvature: bool = False,
    device: str = "cpu",
    batch_size: int = 8,
    progress: bool = False,
) -> Iterator[LayerEvidence]:
    """Gradients of the mean next-token loss over ``input_ids``, one pass for all layers.

    Args:
        base: model folder; the whole model and the gradients of its linear layers are held on ``device``.
        input_ids: int64 [samples, length].
        curvature: also the mean squared gradient of single samples, which are then run one by one.
    """
    import torch

    model = load(base, device=device).requires_grad_(False)
    layers = model.model.layers
    squares: dict[torch.nn.Parameter, torch.Tensor] = {}
    weights = {
        (index, name): layer.get_submodule(name).weight for index, layer in enumerate(layers) for name in LINEARS
    }
    for weight in weights.values():
        weight.requires_grad_(True)
        if curvature:
            squares[weight] = torch.zeros_like(weight)

    def accumulate_square(gradient: torch.Tensor, square: torch.Tensor) -> None:
        # the gradient is of one sample's loss divided by their number
        square.addcmul_(gradient, gradient, value=len(input_ids))

    for weight, square in squares.items():
        weight.register_hook(partial(accumulate_square, square=square))
    for batch in track(input_ids.split(1 if curvature else batch_size), "gradients", "batch", show=progress):
        ids = batch.to(device)
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        (loss * len(batch) / len(input_ids)).backward()
    for index, layer in enumerate(layers):
        evidence = {
            name: Evidence(index, name, gradient=weight.grad, curvature=squares.get(weight))
            for name in LINEARS
            for weight in (weights[index, name],)
        }
        yield LayerEvidence(index, _parameters(layer), evidence)

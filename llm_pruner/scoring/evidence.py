"""What a saliency may look at besides the weight: the inputs of its linear layer, or its gradient."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from llm_pruner.models.architecture import read_architecture
from llm_pruner.models.checkpoint import WeightReader
from llm_pruner.models.layout import linears_among
from llm_pruner.scoring.features import Features
from llm_pruner.scoring.moments import Moments
from llm_pruner.scoring.stream import LayerStream, StreamedLayer
from llm_pruner.scoring.stream_weights import stream_weights
from llm_pruner.system.runtime import ON_CPU, Runtime

if TYPE_CHECKING:
    import torch

Inputs = Literal["none", "input_norm", "moments"]
Kind = Literal["none", "input_norm", "features", "moments", "gradient", "curvature"]


@dataclass(frozen=True)
class Evidence:
    """Evidence about one linear layer of a decoder block."""

    layer: int
    linear: str
    """Name within the block, such as ``mlp.up_proj``."""
    samples: int = 0
    """Calibration samples that were looked at."""
    input_norm: torch.Tensor | None = None
    """float32 [in_features]: root of the mean over samples of each input feature's squared L2 norm."""
    mean_norm: torch.Tensor | None = None
    """float32 [in_features]: mean over samples of each input feature's L2 norm."""
    variance: torch.Tensor | None = None
    """float32 [in_features]: of each input feature, over tokens."""
    moments: Moments | None = None
    """Of its inputs. Linear layers that read the same inputs share one."""
    stream_weight: float | None = None
    """Of a linear layer that writes the residual stream: what an error of its output is in the stream behind its
    block. It takes the squared error, the mean over tokens, to a share of the stream's squared norm."""
    gradient: torch.Tensor | None = None
    """[out_features, in_features]: gradient of the mean next-token loss."""
    curvature: torch.Tensor | None = None
    """[out_features, in_features]: mean over samples of the squared gradient of each sample's loss, which stands in for
    the diagonal of the Hessian."""


def _unobserved() -> None:
    """No-op: no later layer depends on these weights."""


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
    runtime: Runtime = ON_CPU,
    *,
    inputs: Inputs = "none",
    description: str = "layers",
    linears: Collection[str] | None = None,
    checkpointing: bool = True,
) -> Iterator[LayerEvidence]:
    """Walk a model's layers with one kind of evidence, holding one layer at a time.

    Args:
        kind: ``none`` reads weights alone, ``input_norm`` streams calibration samples through the layers,
            ``features`` and ``moments`` do so too and give norms as well, ``gradient`` and ``curvature`` stream them
            back as well and give the last layer first.
        base: model folder.
        input_ids: int64 [samples, length]; not looked at for ``none``.
        runtime: where layers go; ``curvature`` runs samples one by one anyway.
        inputs: what of inputs is gathered beside ``gradient`` or ``curvature``. The gradients, of the dense model, are
            then made first and kept on disk until their layer's turn comes, the first layer first; ``curvature`` comes
            without ``gradient``.
        linears: those that there is evidence of, by name within the layer; all by default, and always for gradients.
        checkpointing: see ``loss_gradients``.
    """
    if kind == "none":
        weights = WeightReader(base)
        for index in range(read_architecture(base).num_layers):
            parameters = weights.layer(index)
            evidence = {name: Evidence(index, name) for name in _among(parameters, linears)}
            yield LayerEvidence(index, parameters, evidence)
        return
    assert input_ids is not None
    if inputs != "none" and kind in ("gradient", "curvature"):
        backwards = gather(kind, base, input_ids, runtime, description=description, checkpointing=checkpointing)
        yield from _beside(kind, backwards, gather(inputs, base, input_ids, runtime, description=description))
        return
    if kind == "curvature":
        runtime = replace(runtime, batch_size=1)
    stream = LayerStream(base, input_ids, runtime, description=description)
    if kind in ("gradient", "curvature"):
        yield from loss_gradients(stream, curvature=kind == "curvature", checkpointing=checkpointing)
        return
    for layer in stream:
        seen = {
            name: Evidence(layer.index, name, len(input_ids)) for name in _among(_parameters(layer.module), linears)
        }
        if kind == "moments":
            with stream_weights(layer) as weighed:
                moments = input_moments(layer, linears)
            norms = norms_of(moments, len(input_ids))
            evidence = {
                name: replace(own, input_norm=norms[name], moments=moments[name], stream_weight=weighed.get(name))
                for name, own in seen.items()
            }
        elif kind == "features":
            features = input_features(layer, linears)
            evidence = {
                name: replace(
                    own,
                    input_norm=features[name].input_norm(),
                    mean_norm=features[name].mean_norm(),
                    variance=features[name].variance(),
                )
                for name, own in seen.items()
            }
        else:
            norms = input_norms(layer, linears)
            evidence = {name: replace(own, input_norm=norms[name]) for name, own in seen.items()}
        yield LayerEvidence(layer.index, _parameters(layer.module), evidence, layer.changed)


def _among(parameters: Collection[str], linears: Collection[str] | None) -> tuple[str, ...]:
    """The linear layers of a decoder layer of these parameters, or those of them that are asked for."""
    return tuple(name for name in linears_among(parameters) if linears is None or name in linears)


def _beside(
    kind: Kind, backwards: Iterator[LayerEvidence], forwards: Iterator[LayerEvidence]
) -> Iterator[LayerEvidence]:
    """The layers of a walk forwards, with what one backwards gave."""
    from safetensors.torch import load_file, save_file

    with TemporaryDirectory() as room:
        for layer in backwards:
            tensors = {name: getattr(evidence, kind).contiguous() for name, evidence in layer.evidence.items()}
            save_file(tensors, Path(room, str(layer.index)))
        for layer in forwards:
            place = Path(room, str(layer.index))
            kept = load_file(place)
            place.unlink()
            evidence = {}
            for name, own in layer.evidence.items():
                tensor = kept[name].to(layer.parameters[f"{name}.weight"].device)
                evidence[name] = replace(own, gradient=tensor) if kind == "gradient" else replace(own, curvature=tensor)
            yield replace(layer, evidence=evidence)


def _parameters(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.data for name, parameter in module.named_parameters()}


def input_norms(layer: StreamedLayer, linears: Collection[str] | None = None) -> dict[str, torch.Tensor]:
    """Norms of the inputs of a block's linear layers, from one pass of all calibration samples.

    Args:
        linears: names of those that are asked for; all by default.

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

    with input_hooks(layer, accumulate, linears):
        for _ in layer.run():
            pass
    return {name: (total / samples).sqrt() for name, total in sums.items()}


def input_features(layer: StreamedLayer, linears: Collection[str] | None = None) -> dict[str, Features]:
    """What the inputs of a block's linear layers are like, feature by feature, from one pass of all samples.

    Args:
        linears: names of those that are asked for; all by default.
    """
    found: dict[str, Features] = {}

    def accumulate(name: str) -> Callable[..., None]:
        def hook(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            found.setdefault(name, Features()).add(inputs[0])

        return hook

    with input_hooks(layer, accumulate, linears):
        for _ in layer.run():
            pass
    return found


def input_moments(layer: StreamedLayer, linears: Collection[str] | None = None) -> dict[str, Moments]:
    """Moments of the inputs of a block's linear layers, from one pass of all calibration samples.

    Args:
        linears: names of those that are asked for; all by default.

    Returns:
        By linear name; one object for those that read the same inputs.
    """
    found: dict[str, Moments] = {}
    # of the forward pass of one batch: what the last linear layer read, and whose moments that went into
    reading: list[tuple[torch.Tensor, Moments]] = []

    def accumulate(name: str) -> Callable[..., None]:
        def hook(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            (states,) = inputs
            if reading and reading[0][0] is states:
                found[name] = reading[0][1]
                return
            if name not in found:
                found[name] = Moments.empty(states.shape[-1], states.device)
            found[name].add(states)
            reading[:] = [(states, found[name])]

        return hook

    with input_hooks(layer, accumulate, linears):
        for _ in layer.run():
            pass
    return found


def norms_of(moments: Mapping[str, Moments], samples: int) -> dict[str, torch.Tensor]:
    """What ``input_norms`` gives, from moments of the inputs."""
    return {name: (own.gram.diagonal() / samples).sqrt() for name, own in moments.items()}


@contextmanager
def input_hooks(
    layer: StreamedLayer, make: Callable[[str], Callable[..., None]], linears: Collection[str] | None = None
) -> Iterator[None]:
    """While the block runs, show a block's linear layers' inputs to what ``make`` gives for their names.

    Args:
        make: gives a forward pre-hook, called with the module and its inputs.
        linears: names of those that are asked for; all by default.
    """
    names = _among(_parameters(layer.module), linears)
    handles = [layer.module.get_submodule(name).register_forward_pre_hook(make(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def loss_gradients(
    stream: LayerStream, *, curvature: bool = False, checkpointing: bool = True
) -> Iterator[LayerEvidence]:
    """Gradients of the mean next-token loss over the stream's samples, one layer at a time, the last first.

    One pass forward keeps what enters each layer; on the way back a layer sees all samples before its turn is over,
    so its gradients are complete, are reduced by the caller, and are gone before the next layer's are made. No more
    than one layer's weights and gradients are ever held, and they are those of one backward pass of the whole model.

    Args:
        stream: over the base model; with ``curvature`` its batches must be single samples.
        curvature: also the mean squared gradient of single samples.
        checkpointing: compute a layer's activations again on the way back. Without it all activations of all layers
            and samples are held instead, and all weights with them.
    """
    import torch

    batches = stream.input_ids.split(stream.runtime.batch_size)
    shares = [len(ids) / len(stream.input_ids) for ids in batches]
    layers: list[StreamedLayer] = []
    graphs: list[_Graph] = []
    for layer in stream:
        layers.append(layer)
        entering = layer.outputs()
        layer.park()
        if not checkpointing:
            graphs.append(_Graph(layer, keep=True))
    head = stream.head()
    pending = []
    for hidden, ids, share in zip(entering, batches, shares, strict=True):
        leaf = hidden.detach().requires_grad_()
        (head(leaf, ids) * share).backward()
        pending.append(leaf.grad)
    for layer in stream.backwards(layers):
        graph = graphs.pop() if graphs else _Graph(layer)
        gradients = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in graph.weights.items()}
        squares = {name: torch.zeros_like(gradient) for name, gradient in gradients.items() if curvature}
        for number, (leaf, output) in enumerate(graph.batches):
            output.backward(pending[number])
            pending[number] = leaf.grad
            for name, weight in graph.weights.items():
                assert weight.grad is not None
                gradient = weight.grad.float()
                gradients[name] += gradient
                if curvature:
                    # the gradient is of one sample's loss divided by their number
                    squares[name].addcmul_(gradient, gradient, value=len(stream.input_ids))
                weight.grad = None
        evidence = {
            name: Evidence(layer.index, name, len(stream.input_ids), gradient=gradient, curvature=squares.get(name))
            for name, gradient in gradients.items()
        }
        yield LayerEvidence(layer.index, _parameters(layer.module), evidence)


class _Graph:
    """A layer's forward pass of every batch, differentiable by its input and its linear weights."""

    def __init__(self, layer: StreamedLayer, keep: bool = False) -> None:
        self.layer = layer
        layer.module.requires_grad_(False)
        self.weights = {
            name: layer.module.get_parameter(f"{name}.weight").requires_grad_(True)
            for name in linears_among(_parameters(layer.module))
        }
        self.batches = self._run()
        """(leaf, output) of each batch; one at a time as they are asked for, unless all are kept."""
        if keep:
            self.batches = iter(list(self.batches))

    def _run(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for hidden in self.layer.inputs:
            leaf = hidden.to(self.layer.device).detach().requires_grad_()
            yield leaf, self.layer(leaf)

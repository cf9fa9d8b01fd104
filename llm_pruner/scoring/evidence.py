"""Evidence about linear layers besides their weights: statistics of their inputs, and gradients."""

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
    """Number of calibration samples in the evidence."""
    input_norm: torch.Tensor | None = None
    """float32 [in_features]: L2 norm of each input feature over a sample's tokens, root mean square over samples."""
    mean_norm: torch.Tensor | None = None
    """float32 [in_features]: L2 norm of each input feature over a sample's tokens, mean over samples."""
    variance: torch.Tensor | None = None
    """float32 [in_features]: variance of each input feature over tokens."""
    moments: Moments | None = None
    """Moments of the inputs. Linear layers that read the same inputs share one object."""
    stream_weight: float | None = None
    """For a linear layer that writes the residual stream: the factor from the squared error of its output, mean over
    tokens, to a share of the squared norm of the stream after its block."""
    gradient: torch.Tensor | None = None
    """float32 [out_features, in_features]: gradient of the mean next-token loss."""
    curvature: torch.Tensor | None = None
    """float32 [out_features, in_features]: squared gradient of a sample's loss, mean over samples. It approximates the
    diagonal of the Hessian."""


def _unobserved() -> None:
    """No-op: no later layer depends on these weights."""


@dataclass(frozen=True)
class LayerEvidence:
    """A decoder layer's parameters, and evidence about its linear layers."""

    index: int
    parameters: dict[str, torch.Tensor]
    """Tensors by name within the layer. Call ``changed`` after changing them in place: later layers then see it."""
    evidence: dict[str, Evidence]
    """Evidence by name of the linear layer."""
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
    """Walk a model's layers with one kind of evidence, one layer in memory at a time.

    Args:
        kind: ``none`` reads weights alone. ``input_norm``, ``features`` and ``moments`` run calibration samples
            through the layers; all three give norms. ``gradient`` and ``curvature`` also run the samples backwards,
            and yield the last layer first.
        base: model folder.
        input_ids: int64 [samples, length]; ``none`` does not use them.
        runtime: its device holds the current layer. ``curvature`` runs samples one by one, whatever the batch size.
        inputs: statistics of inputs to gather beside ``gradient`` or ``curvature``. The gradients of the dense model
            are then computed first and kept on disk, and layers are yielded first to last; ``curvature`` comes
            without ``gradient``.
        linears: linear layers to gather evidence about, by name within the layer. None means all; gradients always
            cover all.
        checkpointing: see ``loss_gradients``.

    Raises:
        CheckpointError: if the model folder cannot be read.
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
    """Names of the linear layers among the parameters of a decoder layer, limited to ``linears`` if given."""
    return tuple(name for name in linears_among(parameters) if linears is None or name in linears)


def _beside(
    kind: Kind, backwards: Iterator[LayerEvidence], forwards: Iterator[LayerEvidence]
) -> Iterator[LayerEvidence]:
    """Layers of a forward walk, with the gradients or curvatures of a backward walk."""
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
    """Norms of the inputs of a decoder layer's linear layers, from one pass of all calibration samples.

    Args:
        linears: names of the linear layers to observe; None means all.

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
    """Statistics of each input feature of a decoder layer's linear layers, from one pass of all calibration samples.

    Args:
        linears: names of the linear layers to observe; None means all.

    Returns:
        Statistics by linear name.
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
    """Moments of the inputs of a decoder layer's linear layers, from one pass of all calibration samples.

    Args:
        linears: names of the linear layers to observe; None means all.

    Returns:
        Moments by linear name. Linear layers that read the same inputs share one object.
    """
    found: dict[str, Moments] = {}
    # of the current batch: the latest inputs of a linear layer, and the moments they were added to
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
    """The norms that ``input_norms`` returns, computed from moments of the inputs."""
    return {name: (own.gram.diagonal() / samples).sqrt() for name, own in moments.items()}


@contextmanager
def input_hooks(
    layer: StreamedLayer, make: Callable[[str], Callable[..., None]], linears: Collection[str] | None = None
) -> Iterator[None]:
    """Context in which a hook observes the inputs of each linear layer of a decoder layer.

    Args:
        make: from the name of a linear layer to its forward pre-hook, which is called with the module and its inputs.
        linears: names of the linear layers to observe; None means all.
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
    """Gradients of the mean next-token loss over the stream's samples, one layer at a time, last layer first.

    A forward pass keeps the inputs of every layer in host memory. On the way back a layer sees all samples before it
    is yielded, so its gradients are complete; they are released before the next layer's are computed. Memory thus
    holds the weights and gradients of one layer, and the gradients equal those of one backward pass of the whole model.

    Args:
        stream: stream over the base model; ``curvature`` needs batches of one sample.
        curvature: also compute the squared gradient of each sample's loss, mean over samples.
        checkpointing: compute a layer's activations again on the way back. If false, the activations of all layers
            and samples, and all weights, stay in memory.
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
                    # each gradient is that of one sample's loss, divided by the number of samples
                    squares[name].addcmul_(gradient, gradient, value=len(stream.input_ids))
                weight.grad = None
        evidence = {
            name: Evidence(layer.index, name, len(stream.input_ids), gradient=gradient, curvature=squares.get(name))
            for name, gradient in gradients.items()
        }
        yield LayerEvidence(layer.index, _parameters(layer.module), evidence)


class _Graph:
    """A layer's forward pass of every batch, differentiable in the layer's input and linear weights."""

    def __init__(self, layer: StreamedLayer, keep: bool = False) -> None:
        self.layer = layer
        layer.module.requires_grad_(False)
        self.weights = {
            name: layer.module.get_parameter(f"{name}.weight").requires_grad_(True)
            for name in linears_among(_parameters(layer.module))
        }
        self.batches = self._run()
        """(leaf, output) of each batch: all in memory if ``keep``, otherwise computed one at a time."""
        if keep:
            self.batches = iter(list(self.batches))

    def _run(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for hidden in self.layer.inputs:
            leaf = hidden.to(self.layer.device).detach().requires_grad_()
            yield leaf, self.layer(leaf)

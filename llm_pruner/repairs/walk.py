"""The walk of a repair through a model, one decoder layer at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from llm_pruner.models.architecture import read_architecture
from llm_pruner.models.biases import with_output_biases
from llm_pruner.models.checkpoint import CheckpointWriter, WeightReader, copy_companions, write_config
from llm_pruner.models.layout import block_of_linear, component, layer_prefix, linears_among, output_linears
from llm_pruner.repairs.base import Removed
from llm_pruner.repairs.dense_states import DenseStates
from llm_pruner.repairs.records import LinearRepairRecord
from llm_pruner.repairs.regression import Regression
from llm_pruner.scoring.evidence import input_hooks
from llm_pruner.scoring.moments import Moments
from llm_pruner.scoring.stream import LayerStream, StreamedLayer
from llm_pruner.scoring.stream_weights import token_energies
from llm_pruner.system.errors import CheckpointError, PlanError
from llm_pruner.system.files import staged_directory
from llm_pruner.system.records import Part
from llm_pruner.system.runtime import Runtime

if TYPE_CHECKING:
    import torch

    from llm_pruner.repairs.linear import LinearRepair, RepairOptions

Told = TypeVar("Told", bound=Part)


def repair_model(
    base: Path,
    output: Path,
    removed: Removed,
    options: RepairOptions,
    repair_layer: Callable[..., Iterator[Told]],
    input_ids: torch.Tensor,
    runtime: Runtime,
    *,
    adds_bias: bool = False,
    description: str = "layers",
) -> list[Told]:
    """Write a repaired model in the shapes of ``base``, with zeros at the removed weights.

    Args:
        base: model folder.
        output: the new folder; it appears only when complete.
        removed: masks of the removed weights.
        options: options of the repair.
        repair_layer: repairs one decoder layer in place and yields records, as ``repair_linears`` does.
        input_ids: calibration samples, int64 [samples, length].
        runtime: device, batch size and progress display.
        adds_bias: give every linear layer that writes the residual stream a bias, zero until its repair.
        description: text of the progress bar.

    Returns:
        Records of all layers, in the order of repair.

    Raises:
        PlanError: if there are too few samples, or the samples do not determine a repair.
        CheckpointError: if inputs of a layer are not finite.
    """
    architecture = read_architecture(base)
    shape = with_output_biases(architecture) if adds_bias else architecture
    new_biases = shape.tensors.keys() - architecture.tensors.keys()
    input_ids = input_ids[: options.samples]
    fitted = fitted_samples(len(input_ids), options.held_out)
    records: list[Told] = []
    with staged_directory(output, inputs=[base]) as folder, CheckpointWriter(folder) as writer:
        weights = WeightReader(base)
        for name in weights.names():
            if component(name)[0] is None:
                writer.add(name, weights.tensor(name))
        streams = [LayerStream(base, input_ids, runtime, description=description)]
        if options.inputs == "sequential":
            streams.append(LayerStream(base, input_ids, Runtime(runtime.device, runtime.batch_size), description=""))
        for layers in zip(*streams, strict=True):
            gone = {
                name: mask.to(layers[0].device)
                for name in linears_among(dict(layers[0].module.named_parameters()))
                if (mask := removed(layers[0].index, name)) is not None
            }
            _add_biases(layers[0], new_biases)
            records += repair_layer(gone, fitted, *layers)
            for name, parameter in layers[0].module.named_parameters():
                writer.add(layer_prefix(layers[0].index) + name, parameter.data)
        write_config(folder, shape.config)
        copy_companions(base, folder)
    return records


def fitted_samples(samples: int, held_out: float) -> int:
    """Number of samples to fit. The other samples are held out; if there are none, the fitted samples decide.

    Raises:
        PlanError: if no sample is left to fit.
    """
    if not held_out:
        return samples
    aside = max(1, round(samples * held_out))
    if samples <= aside:
        raise PlanError(f"a repair needs at least 2 calibration samples, one of them held out; there are {samples}")
    return samples - aside


def _add_biases(layer: StreamedLayer, names: Collection[str]) -> None:
    """Add zero biases with these names to the linear layers."""
    import torch

    for name, weight in list(layer.module.named_parameters()):
        linear = name.removesuffix(".weight")
        if f"{layer_prefix(layer.index)}{linear}.bias" in names:
            layer.module.get_submodule(linear).bias = torch.nn.Parameter(weight.new_zeros(len(weight)), False)


def repair_linears(
    repair: LinearRepair,
    removed: Mapping[str, torch.Tensor],
    fitted: int,
    layer: StreamedLayer,
    dense: StreamedLayer | None = None,
) -> Iterator[LinearRepairRecord]:
    """Repair the linear layers of one decoder layer in place.

    A linear layer keeps its repair if the squared error on held-out samples falls.

    Args:
        repair: proposes candidates for each linear layer.
        removed: masks of the removed weights, by linear layer.
        fitted: number of samples to fit; the samples after these are held out.
        layer: the layer to change. Its inputs come from the repaired layers before it if ``dense`` is given, else from
            the dense model.
        dense: the unchanged layer with the dense model's inputs, for sequential repairs.

    Yields:
        A record for each linear layer.

    Raises:
        PlanError: if the samples do not determine a repair.
        CheckpointError: if inputs of a linear layer are not finite.
    """
    weights = {name: layer.module.get_parameter(f"{name}.weight") for name in removed}
    originals = {name: weight.data.clone() for name, weight in weights.items()}
    if dense is None:
        # the next layer reads the outputs from before the repair, which are the dense model's
        sides = _regressions(repair.options, layer, list(removed), fitted, originals)
        for name in removed:
            yield _repair_linear(repair, layer, name, originals[name], removed[name], sides[name])
        return
    states = DenseStates.of(dense) if removed else None
    for name, weight in weights.items():
        weight.data.masked_fill_(removed[name], 0)
    layer.changed()
    for names in _reading_together(removed):
        sides = _regressions(repair.options, layer, names, fitted, originals, states)
        for name in names:
            yield _repair_linear(repair, layer, name, originals[name], removed[name], sides[name])
        layer.changed()


def _repair_linear(
    repair: LinearRepair,
    layer: StreamedLayer,
    name: str,
    original: torch.Tensor,
    removed: torch.Tensor,
    sides: tuple[Regression, Regression],
) -> LinearRepairRecord:
    """Set one linear layer to the best weight on the held-out samples, repaired or not."""
    fit, held_out = sides
    if not all(side.moments.gram.isfinite().all() for side in sides):
        raise CheckpointError(f"layer {layer.index}, {name}: the inputs overflow in this dtype; calibrate in float32")
    deciding = held_out if held_out.moments.tokens else fit
    cut = original.float().masked_fill(removed, 0)
    before = deciding.loss(cut)
    wanted = {"stream": fit, "own": Regression.of_weight(original, fit.moments)} if fit.towards_stream else {"own": fit}
    best, after = None, math.inf
    try:
        for target, regression in wanted.items():
            for candidate in repair.candidates(original.float(), removed, regression):
                if (error := deciding.loss(candidate.weight, candidate.bias)) < after:
                    best, after = replace(candidate, settings={"wanted": target, **candidate.settings}), error
    except PlanError as error:
        raise PlanError(f"layer {layer.index}, {name}: {error}") from None
    assert best is not None
    better = after < before
    layer.module.get_parameter(f"{name}.weight").data.copy_(best.weight if better else cut)
    if best.bias is not None and better:
        layer.module.get_parameter(f"{name}.bias").data.add_(best.bias)
    return LinearRepairRecord(
        layer=layer.index, linear=name, before=before, after=after, kept=better, settings=best.settings
    )


def _reading_together(names: Iterable[str]) -> list[list[str]]:
    """Linear layers in running order, grouped by their inputs."""
    groups: list[list[str]] = []
    for name in names:
        if groups and not output_linears([name]) and block_of_linear(groups[-1][0]) == block_of_linear(name):
            groups[-1].append(name)
        else:
            groups.append([name])
    return groups


def _regressions(
    options: RepairOptions,
    layer: StreamedLayer,
    names: Sequence[str],
    fitted: int,
    originals: Mapping[str, torch.Tensor],
    states: DenseStates | None = None,
) -> dict[str, tuple[Regression, Regression]]:
    """Regressions of each linear layer, on the fitted and on the held-out samples.

    Targets are the original weight's outputs on the same inputs. With ``states``, targets of linear layers that write
    the residual stream restore the dense stream, unless a norm stands in between.
    """
    outputs = output_linears(names)
    writes = [name for block, name in outputs.items() if states and block in states.factors]
    leaders = {name: group[0] for group in _reading_together(names) for name in group}
    fitting = {
        name: (_no_tokens(originals[name], name in writes), _no_tokens(originals[name], name in writes))
        for name in dict.fromkeys(leaders.values())
    }
    parameters = dict(layer.module.named_parameters())
    latest: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            latest[name] = inputs[0]

        return hook

    layer.part = "mlp"
    seen = 0
    with input_hooks(layer, keep, list(fitting)):
        for number, (middle, output) in enumerate(layer.run()):
            border = max(0, min(len(middle), fitted - seen))
            seen += len(middle)
            behind = states.behind(number) if states else {"attention": middle, "mlp": output}
            for name, pair in fitting.items():
                rows = [latest[name]]
                if name in writes:
                    assert states is not None
                    wanted = states.wanted(block_of_linear(name), number, layer.inputs[number], middle)
                    bias = parameters.get(f"{name}.bias")
                    rows.append(wanted if bias is None else wanted - bias)
                if name in outputs.values() and options.weigh == "stream":
                    stream = behind[block_of_linear(name)]
                    # the hidden size as a factor brings weights of all models near one
                    weights = (token_energies(stream) / stream.shape[-1]).reciprocal()
                    rows.append(weights.to(rows[0].device))
                for side, part in zip(pair, (slice(border), slice(border, None)), strict=True):
                    side.add(*(each[part] for each in rows))
    return {name: _sides(fitting[leader], originals[name]) for name, leader in leaders.items()}


def _no_tokens(weight: torch.Tensor, wanted: bool) -> Moments | Regression:
    """Sums over no tokens, of a linear layer's inputs alone or of its target outputs too."""
    outputs, inputs = weight.shape
    if wanted:
        return Regression.empty(outputs, inputs, towards_stream=True, device=weight.device)
    return Moments.empty(inputs, weight.device)


def _sides(
    pair: tuple[Moments | Regression, Moments | Regression], original: torch.Tensor
) -> tuple[Regression, Regression]:
    """A linear layer's regressions; sums of inputs alone get the original weight's outputs as targets."""
    fit, held_out = (side if isinstance(side, Regression) else Regression.of_weight(original, side) for side in pair)
    return fit, held_out

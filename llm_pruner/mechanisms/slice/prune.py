"""Pruning jobs that slice the residual stream: every position is rotated and loses its last directions.

Layers are sliced one after the other, and each basis is computed from hidden states of the model sliced so far. Gains
of norms are folded into the linear layers after them, and a shortcut matrix takes the residual from one basis to the
next. After the last layer the stream keeps its own basis and full width, so the output weights only absorb the last
norm's gain.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from llm_pruner.mechanisms.job import Job, Outcome
from llm_pruner.mechanisms.slice.check import check, uniform_width
from llm_pruner.mechanisms.slice.options import SliceOptions
from llm_pruner.methods.base import RotationMethod
from llm_pruner.models.architecture import read_architecture
from llm_pruner.models.checkpoint import CheckpointWriter, WeightReader, copy_companions, write_config
from llm_pruner.models.layout import EMBEDDING, FINAL_NORM, HEAD, layer_prefix
from llm_pruner.planning.slice_widths import removes_hidden, removes_parameters, widths_by_variance
from llm_pruner.scoring.stream import LayerStream
from llm_pruner.system.errors import CheckpointError, PlanError
from llm_pruner.system.files import staged_directory

if TYPE_CHECKING:
    import torch

    from llm_pruner.models.architecture import Architecture

NOTEWORTHY_MISS = 0.005
"""Smallest miss of the amount that the record notes, as a share of the hidden width."""

_NOT_FINITE = "the weights overflow in this dtype or are damaged"


def prune(job: Job) -> Outcome:
    """Slice the variant's amount off the hidden width at every position but the last.

    Raises:
        PlanError: if the amount leaves nothing, or there are too few calibration tokens.
        CheckpointError: if activations or weights are not finite. Then no model is written.
    """
    assert job.input_ids is not None
    method = job.variant.build_method()
    assert isinstance(method, RotationMethod)
    architecture = read_architecture(job.base)
    try:
        check(job.variant, architecture, job.input_ids.numel())
    except PlanError as error:
        raise PlanError(f"{job.variant.name}: {error}") from None
    widths = plan_widths(job, architecture)
    weights = WeightReader(job.base)
    with staged_directory(job.model, inputs=[job.base]) as folder, CheckpointWriter(folder) as writer:
        for name, tensor in sliced_parameters(job, method, weights, widths):
            if not tensor.isfinite().all():
                raise CheckpointError(f"{job.base}: '{name}' is not finite after rotation; {_NOT_FINITE}")
            writer.add(name, tensor)
        config = {**architecture.config, "tie_word_embeddings": False, "sliced": {"widths": widths}}
        write_config(folder, config)
        copy_companions(job.base, folder)
    options = SliceOptions(**job.variant.options)
    width_gone = 1 - sum(widths[:-1]) / (architecture.hidden_size * len(widths[:-1]))
    removed = architecture.total_parameters - read_architecture(job.model).total_parameters
    reached = width_gone if options.of == "hidden" else removed / architecture.total_parameters
    notes = []
    if options.of == "parameters":
        notes.append(f"{width_gone:.2%} of the hidden width.")
    elif abs(reached - job.variant.amount) > NOTEWORTHY_MISS:
        notes.append(f"{reached:.2%} of the hidden width: widths are multiples of {options.multiple_of}, rounded down.")
    if removed < 0:
        notes.append(
            f"{-removed:,} parameters more than the base: shortcuts and the untied output outweigh the slices; "
            "of: parameters counts them in."
        )
    return Outcome(reached, notes=notes)


def plan_widths(job: Job, architecture: Architecture) -> list[int]:
    """Widths of all positions; the last is the full width.

    Raises:
        PlanError: if the amount leaves nothing or cannot be reached.
        CheckpointError: if activations are not finite.
    """
    options, hidden = SliceOptions(**job.variant.options), architecture.hidden_size
    amount = job.variant.amount
    if options.schedule == "constant":
        return [uniform_width(architecture, amount, options)] * (2 * architecture.num_layers) + [hidden]
    fits = removes_hidden(hidden, amount) if options.of == "hidden" else removes_parameters(architecture, amount)
    return [*widths_by_variance(spectra(job), fits, options.multiple_of), hidden]


def spectra(job: Job) -> list[list[float]]:
    """Eigenvalues of the second moments at every position but the last, descending, of the unsliced model."""
    import torch

    from llm_pruner.surgery import rotation

    found = []
    for layer in _stream(job, "spectra"):
        states = layer.without("mlp")
        for batches in (layer.inputs, states):
            eigenvalues = torch.linalg.eigvalsh(_moments(job, layer.index, batches))
            found.append(eigenvalues.clamp(min=0).flip(0).tolist())
        rotation.add_mlp(layer, states)
        layer.leave(states)
    return found


def sliced_parameters(
    job: Job, method: RotationMethod, weights: WeightReader, widths: list[int]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield names and tensors of the sliced model, layer by layer."""
    import torch

    from llm_pruner.surgery import rotation

    def basis(index: int, batches: list[torch.Tensor], position: int) -> torch.Tensor:
        return method.basis(_moments(job, index, batches))[:, : widths[position]]

    last = (len(widths) - 1) // 2 - 1
    for layer in _stream(job, "layers"):
        position = 2 * layer.index
        if layer.index == 0:
            enter = basis(0, layer.inputs, 0)
            rotation.project(layer.inputs, enter)
            embedding = weights.tensor(f"{EMBEDDING}.weight")
            yield f"{EMBEDDING}.weight", rotation.rotated_embedding(embedding, enter)
        states = layer.without("mlp")
        middle = basis(layer.index, states, position + 1)
        if layer.index < last:
            rotation.project(states, middle)
            rotation.add_mlp(layer, states)
            leave = basis(layer.index, states, position + 2)
            rotation.project(states, leave)
            layer.leave(states)
        else:
            leave = torch.eye(widths[-1], dtype=torch.float64, device=job.runtime.device)
        for name, tensor in rotation.rotated_layer(layer.module.state_dict(), enter, middle, leave).items():
            yield layer_prefix(layer.index) + name, tensor
        enter = leave
    head = weights.tensor(f"{HEAD}.weight" if f"{HEAD}.weight" in weights.names() else f"{EMBEDDING}.weight")
    yield f"{HEAD}.weight", (head * weights.tensor(f"{FINAL_NORM}.weight")).to(head.dtype)


def _moments(job: Job, index: int, batches: list[torch.Tensor]) -> torch.Tensor:
    from llm_pruner.surgery.rotation import second_moments

    moments = second_moments(batches)
    if not moments.isfinite().all():
        raise CheckpointError(f"{job.base}: activations in layer {index} are not finite; {_NOT_FINITE}")
    return moments


def _stream(job: Job, what: str) -> LayerStream:
    assert job.input_ids is not None
    return LayerStream(
        job.base,
        job.input_ids,
        job.runtime,
        description=f"{job.variant.name} {what}",
    )

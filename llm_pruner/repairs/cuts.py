"""The base of repairs for depth pruning: kept weights take over the contribution of removed layers to the stream."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import Field

from llm_pruner.models.architecture import Architecture, read_architecture
from llm_pruner.models.checkpoint import CheckpointWriter, WeightReader, copy_companions, write_config
from llm_pruner.models.layout import layer_prefix, linears_among, output_linears
from llm_pruner.repairs.base import Removed, Repair
from llm_pruner.repairs.linear import RepairOptions
from llm_pruner.repairs.records import CutRepairRecord
from llm_pruner.repairs.walk import fitted_samples
from llm_pruner.scoring.stream import LayerStream, StreamedLayer
from llm_pruner.system.errors import CheckpointError, PlanError
from llm_pruner.system.files import staged_directory

if TYPE_CHECKING:
    import torch

    from llm_pruner.system.runtime import Runtime

Mending = TypeVar("Mending")


class CutRepairOptions(RepairOptions):
    """Options of every repair for depth pruning; unknown keys are refused."""

    held_out: float = Field(default=0.125, ge=0, lt=1)
    """Share of the samples held out of the fit. Held-out samples decide for each cut whether the repair is kept. With
    0, as published, all samples are fitted, and all of them decide."""


@dataclass(frozen=True)
class Cut:
    """Hidden states around a run of removed layers, as lists of batches, float [batch, length, hidden]."""

    layers: range
    """The removed layers."""
    middle: list[torch.Tensor] | None
    """The stream in front of the last MLP before the cut; None if the repair folds nothing or layer 0 is removed."""
    written: list[torch.Tensor] | None
    """The outputs of that MLP."""
    entered: list[torch.Tensor]
    """The stream that enters the removed layers."""
    wanted: list[torch.Tensor]
    """The stream that leaves the removed layers in the dense model."""
    fitted: int
    """Number of samples to fit; the samples after these are held out."""

    def sides(self, *states: Sequence[torch.Tensor]) -> Iterable[tuple[bool, tuple[torch.Tensor, ...]]]:
        """Batches of several hidden states, split into fitted samples (False) and held-out samples (True)."""
        seen = 0
        for batches in zip(*states, strict=True):
            border = max(0, min(len(batches[0]), self.fitted - seen))
            seen += len(batches[0])
            for decides, part in ((False, slice(border)), (True, slice(border, None))):
                if len(batches[0][part]):
                    yield decides, tuple(batch[part] for batch in batches)


class CutRepair(Repair, Generic[Mending]):
    """Repairs every run of removed layers by a change of kept weights."""

    mechanisms = ("depth",)
    told = "cuts"
    Options: ClassVar[Any] = CutRepairOptions
    options: CutRepairOptions
    folds: ClassVar[bool] = False
    """Whether the repair needs the outputs of the last MLP before a cut, to fold something into it."""

    def apply(
        self,
        base: Path,
        output: Path,
        removed: Removed,
        input_ids: torch.Tensor | None,
        runtime: Runtime,
        *,
        description: str = "layers",
        resume_point: Path | None = None,
    ) -> list[CutRepairRecord]:
        assert input_ids is not None
        architecture = read_architecture(base)
        input_ids = input_ids[: self.options.samples]
        fitted = fitted_samples(len(input_ids), self.options.held_out)
        cuts = runs_of(removed_layers(architecture, removed))
        self.check(cuts)
        mendings: list[tuple[range, Mending]] = []
        records = []
        front: tuple[list[torch.Tensor], list[torch.Tensor]] | None = None
        entered: list[torch.Tensor] = []
        for layer in LayerStream(base, input_ids, runtime, description=description):
            cut = next((cut for cut in cuts if layer.index in cut), None)
            if cut is None:
                before_cut = any(layer.index + 1 == one.start for one in cuts)
                front = _last_mlp(layer) if self.folds and before_cut else None
                continue
            if layer.index == cut.start:
                entered = layer.inputs
            if layer.index < cut.stop - 1:
                continue
            middle, written = front or (None, None)
            states = Cut(cut, middle, written, entered, layer.outputs(), fitted)
            if not all(batch.isfinite().all() for batch in states.wanted):
                raise CheckpointError(
                    f"layer {layer.index}: hidden states overflow in this dtype; calibrate in float32"
                )
            mending, record = self.mend(states)
            records.append(record)
            if mending is not None:
                mendings.append((cut, mending))
            if self.options.inputs == "sequential":
                layer.leave(entered if mending is None else self.mended_stream(states, mending))
        with staged_directory(output, inputs=[base]) as folder, CheckpointWriter(folder) as writer:
            weights = WeightReader(base)
            for name in weights.names():
                writer.add(name, self.mended_weight(architecture, name, weights.tensor(name), mendings))
            write_config(folder, architecture.config)
            copy_companions(base, folder)
        return records

    def check(self, cuts: Sequence[range]) -> None:
        """Raise PlanError if the repair cannot work for these runs of removed layers."""

    @abstractmethod
    def mend(self, cut: Cut) -> tuple[Mending | None, CutRepairRecord]:
        """The repair of a cut and its record; the repair is None if it does not lower the error on held-out samples.

        Raises:
            PlanError: if the samples do not determine a repair.
        """

    @abstractmethod
    def mended_stream(self, cut: Cut, mending: Mending) -> list[torch.Tensor]:
        """The residual stream behind the repaired cut, in batches [batch, length, hidden]."""

    @abstractmethod
    def mended_weight(
        self, architecture: Architecture, name: str, tensor: torch.Tensor, mendings: Sequence[tuple[range, Mending]]
    ) -> torch.Tensor:
        """A tensor of the model after all repairs, which come with their removed layers."""


def removed_layers(architecture: Architecture, removed: Removed) -> list[int]:
    """Indices of the layers that are removed as a whole."""
    gone = []
    for index in range(architecture.num_layers):
        prefix = layer_prefix(index)
        names = linears_among({name.removeprefix(prefix) for name in architecture.tensors if name.startswith(prefix)})
        masks = [removed(index, name) for name in names]
        if all(mask is not None and bool(mask.all()) for mask in masks):
            gone.append(index)
    return gone


def runs_of(layers: Iterable[int]) -> list[range]:
    """Runs of consecutive layers.

    >>> runs_of([2, 5, 6, 7])
    [range(2, 3), range(5, 8)]
    """
    runs: list[range] = []
    for index in sorted(layers):
        if runs and runs[-1].stop == index:
            runs[-1] = range(runs[-1].start, index + 1)
        else:
            runs.append(range(index, index + 1))
    return runs


def relative_error(states: Iterable[tuple[torch.Tensor, ...]], weigh: str) -> float:
    """Squared distance of the first from the second hidden states, divided by the squared norm of the second.

    Args:
        states: pairs of batches [batch, length, hidden].
        weigh: ``stream``, the mean of every token's quotient; or ``equal``, the quotient of the sums.
    """
    distance, norm = 0.0, 0.0
    for found, wanted in states:
        off = (found.double() - wanted.double()).square().sum(-1)
        size = wanted.double().square().sum(-1).clamp(min=1e-30)
        if weigh == "stream":
            distance += (off / size).sum().item()
            norm += size.numel()
        else:
            distance += off.sum().item()
            norm += size.sum().item()
    return distance / norm if norm else 0.0


def _last_mlp(layer: StreamedLayer) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The stream in front of a layer's MLP, and the output of the MLP's last linear layer.

    Raises:
        PlanError: if the MLP does not add this output to the stream unchanged, such as with a norm behind it.
    """
    name = output_linears(linears_among(dict(layer.module.named_parameters())))["mlp"]
    written: list[torch.Tensor] = []
    handle = layer.module.get_submodule(name).register_forward_hook(
        lambda _module, _inputs, output: written.append(output)
    )
    part, layer.part = layer.part, "mlp"
    middle: list[torch.Tensor] = []
    off, size = 0.0, 0.0
    try:
        for number, (before, after) in enumerate(layer.run()):
            middle.append(before)
            written[number] = written[number].to(after.device)
            added = after.float() - before.float()
            off += (added - written[number].float()).square().sum().item()
            size += added.square().sum().item()
    finally:
        handle.remove()
        layer.part = part
    if off > _ROUNDING * size:
        raise PlanError(
            f"layer {layer.index}: the MLP does not add the output of {name} unchanged to the residual stream, so this "
            "repair cannot fold a map into this linear layer; write repair: rescale"
        )
    return middle, written


_ROUNDING = 1e-3
"""Largest squared difference of two hidden states, by the squared norm, that rounding explains."""

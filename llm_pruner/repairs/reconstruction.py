"""Local reconstruction of a decoder layer: blocks are trained one by one to restore the dense residual stream."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from llm_pruner.data.order import sample_order
from llm_pruner.models.layout import BLOCKS, block_of_linear, linears_among
from llm_pruner.repairs.dense_states import DenseStates
from llm_pruner.repairs.finished import FinishedBlocks
from llm_pruner.repairs.records import BlockRepairRecord
from llm_pruner.scoring.stream_weights import token_energies
from llm_pruner.system.errors import CheckpointError
from llm_pruner.training.loop import Schedule, TrainingTask, fit
from llm_pruner.training.schedule import rate

if TYPE_CHECKING:
    from llm_pruner.repairs.local import LocalOptions
    from llm_pruner.scoring.stream import StreamedLayer


def repair_blocks(
    options: LocalOptions,
    finished: FinishedBlocks,
    at_once: int,
    removed: Mapping[str, torch.Tensor],
    fitted: int,
    layer: StreamedLayer,
    dense: StreamedLayer | None = None,
) -> Iterator[BlockRepairRecord]:
    """Repair one decoder layer in place: every block with removed weights.

    Args:
        options: options of the training.
        finished: blocks that an interrupted repair has finished.
        at_once: samples in each batch of hidden states; the last batch may have fewer.
        removed: masks of the removed weights, by linear layer.
        fitted: number of samples to train on; the samples after these are held out.
        layer: the layer to change. Its inputs come from the repaired layers before it if ``dense`` is given, else from
            the dense model.
        dense: the unchanged layer with the dense model's inputs, for sequential repairs.

    Yields:
        A record for each repaired block.

    Raises:
        CheckpointError: if hidden states are not finite, or training diverges.
    """
    if not removed:
        return
    wanted = DenseStates.of(dense or layer).streams
    for name, mask in removed.items():
        layer.module.get_parameter(f"{name}.weight").data.masked_fill_(mask, 0)
    entering = layer.inputs
    for block in BLOCKS:
        gone = {name: mask for name, mask in removed.items() if block_of_linear(name) == block}
        if gone:
            found = finished.take(layer.index, block, gone)
            if found is None:
                task = _BlockTask(layer, block, gone, entering, wanted[block], fitted, at_once, options)
                found = _train(task, options)
                finished.keep(*found)
            tensors, record = found
            for name, tensor in tensors.items():
                layer.module.get_parameter(name).data.copy_(tensor)
            yield record
        # without ``dense``, inputs of every block are the dense model's
        entering = list(layer.through(block, entering)) if dense else wanted[block]
    layer.leave(entering)


def _train(task: _BlockTask, options: LocalOptions) -> tuple[dict[str, torch.Tensor], BlockRepairRecord]:
    """Trained parameters of a block, empty if training did not lower the error, and the record."""
    steps, epochs = len(task.order), options.epochs
    schedule = Schedule(
        steps=steps,
        factor=lambda step: rate(step, steps, options.warmup),
        checks=frozenset(round(epoch * steps / epochs) for epoch in range(epochs + 1)),
        clip=math.inf,
    )
    try:
        history = fit(task, schedule)
    except CheckpointError as error:
        raise CheckpointError(f"layer {task.layer}, {task.block}: {error}") from None
    first, *others = history.points
    best = min(others, key=lambda point: point["error"])
    kept = best["error"] < first["error"]
    record = BlockRepairRecord(
        layer=task.layer,
        block=task.block,
        before=first["error"],
        after=best["error"],
        step=best["step"],
        kept=kept,
    )
    return (task.result() if kept else {}), record


class _BlockTask(TrainingTask):
    """Trains a block with Adam on the distance between its residual stream and the dense model's.

    The block computes in float32. Errors are measured with weights rounded to the model's own dtype. The loss is the
    error divided by the error before training, so that losses of all blocks have one scale.
    """

    def __init__(
        self,
        layer: StreamedLayer,
        block: str,
        removed: Mapping[str, torch.Tensor],
        entering: Sequence[torch.Tensor],
        wanted: Sequence[torch.Tensor],
        fitted: int,
        at_once: int,
        options: LocalOptions,
    ) -> None:
        self.layer, self.block = layer.index, block
        self.entering, self.wanted = entering, wanted
        self.at_once = at_once
        self.options = options
        self.remedy = f"lower the repair's learning_rate, which is {options.learning_rate:g}"
        self.run = layer.alone(block).in_float32()
        self.run.module.requires_grad_(False)
        own = dict(layer.module.named_parameters())
        linears = [name for name in linears_among(own) if block_of_linear(name) == block]
        names = [f"{name}.{kind}" for name in linears for kind in ("weight", "bias") if f"{name}.{kind}" in own]
        self.parameters = {name: self.run.module.get_parameter(name).requires_grad_() for name in names}
        self.dtypes = {name: own[name].dtype for name in names}
        self.masks = {f"{name}.weight": mask for name, mask in removed.items()}
        self.trained = nn.ParameterList(self.parameters.values())
        batch = min(options.batch_size, fitted)
        steps = max(1, round(options.epochs * fitted / batch))
        self.order = sample_order(fitted, (steps, batch), options.seed)
        self.held_out = torch.arange(fitted, sum(map(len, entering)))
        self.energy = self._mean_energy() if options.weigh == "equal" else None
        self.scale = 1.0

    def optimizers(self) -> list[torch.optim.Optimizer]:
        groups = []
        for name, parameter in self.parameters.items():
            weight = self.parameters[f"{name.rpartition('.')[0]}.weight"].detach()
            size = weight.square().sum() / weight.count_nonzero().clamp(min=1)
            groups.append({"params": [parameter], "lr": self.options.learning_rate * size.sqrt().item()})
        return [torch.optim.Adam(groups)]

    def gradients(self, step: int) -> float:
        total = 0.0
        parts = self.order[step].split(self.at_once)
        for part in parts:
            loss = self._errors(part).mean() / self.scale / len(parts)
            loss.backward()
            total += loss.item()
        return total

    def after_backward(self) -> None:
        # Adam keeps a weight at exactly zero if its gradient is always zero
        for name, mask in self.masks.items():
            gradient = self.parameters[name].grad
            assert gradient is not None
            gradient.masked_fill_(mask, 0)

    def measure(self, step: int) -> dict[str, Any]:
        exact = {name: parameter.data for name, parameter in self.parameters.items()}
        total = 0.0
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.data = exact[name].to(self.dtypes[name]).float()
            for part in self.held_out.split(self.at_once):
                # all batches have one size: copies fill the last batch and do not count
                full = torch.cat([part, part[-1:].expand(self.at_once - len(part))])
                total += self._errors(full)[: len(part)].mean(dim=1, dtype=torch.float64).sum().item()
            for name, parameter in self.parameters.items():
                parameter.data = exact[name]
        error = total / len(self.held_out)
        if not math.isfinite(error):
            raise CheckpointError(
                f"training diverged: error {error} at update {step}; {self.remedy}"
                if step
                else "the hidden states overflow in this dtype; calibrate in float32"
            )
        if step == 0:
            self.scale = max(error, 1e-30)
        return {"step": step, "error": error}

    def score(self, point: Mapping[str, Any]) -> float:
        return -float(point["error"])

    def result(self) -> dict[str, torch.Tensor]:
        """Trained parameters by name within the layer, in the model's dtypes."""
        return {name: parameter.detach().to(self.dtypes[name]) for name, parameter in self.parameters.items()}

    def _errors(self, samples: torch.Tensor) -> torch.Tensor:
        """Each token's squared distance from the dense stream, float [batch, length]: divided by the squared norm of
        the token's dense stream, or by the mean squared norm of all held-out tokens."""
        entering, wanted = (self._gather(batches, samples) for batches in (self.entering, self.wanted))
        energy = token_energies(wanted) if self.energy is None else self.energy
        return (self.run(entering) - wanted).square().sum(dim=-1) / energy

    def _gather(self, batches: Sequence[torch.Tensor], samples: torch.Tensor) -> torch.Tensor:
        """Hidden states of samples, float32 [samples, length, hidden]."""
        states = [batches[index // self.at_once][index % self.at_once] for index in samples.tolist()]
        return torch.stack(states).to(self.run.device).float()

    def _mean_energy(self) -> float:
        """Mean squared norm of the dense stream over held-out tokens."""
        parts = self.held_out.split(self.at_once)
        total = sum(self._gather(self.wanted, part).square().sum(dtype=torch.float64).item() for part in parts)
        return max(total / (len(self.held_out) * self.wanted[0].shape[1]), 1e-30)

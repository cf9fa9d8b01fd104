"""Calibration samples run through a model one decoder layer at a time, each layer read from disk at its turn.

This is the only loop over decoder layers. Peak memory is one layer plus the hidden states of the calibration samples,
at any depth of the model::

    for layer in LayerStream(base, input_ids):
        for entering, leaving in layer.run():  # one batch: the layer's input and output
            ...

A layer's outputs are the next layer's inputs. ``run`` caches them; ``changed`` drops the cache after a change of
weights, so that the stream runs the layer again; ``leave`` sets other outputs.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from llm_pruner.models.architecture import read_architecture, read_config
from llm_pruner.models.checkpoint import model_class, read_weights
from llm_pruner.models.layout import norm_layout
from llm_pruner.system.device import release_freed_memory
from llm_pruner.system.errors import CheckpointError
from llm_pruner.system.progress import track
from llm_pruner.system.runtime import ON_CPU, Runtime

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel


class StreamedLayer:
    """One decoder layer on the device, with the hidden states that enter it.

    Args:
        index: the layer's index in the model, from 0.
        module: the layer, with its weights on ``device``.
        inputs: batches of float [batch, length, hidden].
        arguments: keyword arguments of the module, by batch size.
        device: device of the computation.
        part: the part that ``run`` measures and ``branch_off`` bypasses: the whole ``layer``, or its ``attention`` or
            ``mlp`` block with the norm before the block.
    """

    def __init__(
        self,
        index: int,
        module: nn.Module,
        inputs: list[torch.Tensor],
        arguments: dict[int, dict[str, Any]],
        device: str,
        part: str = "layer",
    ) -> None:
        self.index = index
        self.module = module
        self.device = device
        self.inputs = inputs
        """Batches of float [batch, length, hidden]."""
        self.part = part
        self.samples_run = 0
        """Samples run through the layer so far; a sample run twice counts twice."""
        self.branch: list[torch.Tensor] | None = None
        """Outputs of the layer without the part, set by ``branch_off``."""
        self._arguments = arguments
        self._outputs: list[torch.Tensor] | None = None

    def run(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Run every batch through the layer with its current weights, and cache the outputs.

        Yields:
            Input and output of the part, each float [batch, length, hidden].
        """
        outputs: list[torch.Tensor] = []
        between: list[torch.Tensor] = []
        between_blocks = norm_layout(name for name, _ in self.module.named_children()).between
        hook = self.module.get_submodule(between_blocks).register_forward_pre_hook(
            lambda _, states: between.append(states[0])
        )
        try:
            for hidden, output in zip(self.inputs, self.apply(self.inputs), strict=True):
                outputs.append(output)
                middle = between.pop().to(output.device)
                yield (middle if self.part == "mlp" else hidden), (middle if self.part == "attention" else output)
        finally:
            hook.remove()
        self._outputs = outputs

    def branch_off(self) -> None:
        """Start a branch: the stream also carries the samples without this part to the end; see ``endings``."""
        batches = self.inputs if self.part == "layer" else self.without(self.part)
        self.branch = [hidden.cpu() for hidden in batches]

    def without(self, block: str) -> list[torch.Tensor]:
        """Outputs of the layer for its current inputs, with its ``attention`` or ``mlp`` block bypassed."""
        from llm_pruner.models.carried.ragged import without_block

        whole, self.module = self.module, without_block(self.module, block, self.index)
        outputs = list(self.apply(self.inputs))
        self.module = whole
        return outputs

    def through(self, block: str, batches: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Run hidden states of the samples through one block alone; yields outputs, [batch, length, hidden]."""
        yield from self.alone(block).apply(batches)

    def alone(self, block: str) -> StreamedLayer:
        """A copy of the layer with one block alone. The copy shares the weights."""
        from llm_pruner.models.carried.ragged import without_block

        alone = copy.copy(self)
        alone.module = without_block(self.module, "attention" if block == "mlp" else "mlp", self.index)
        return alone

    def in_float32(self) -> StreamedLayer:
        """A copy of the layer in float32, with its own weights."""
        exact = copy.copy(self)
        exact.module = copy.deepcopy(self.module).float()
        exact._arguments = _in_float32(self._arguments)
        return exact

    def apply(self, batches: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Run other hidden states of the samples through the layer; yields outputs, [batch, length, hidden]."""
        import torch

        for hidden in batches:
            with torch.no_grad():
                output = self(hidden.to(self.device))
            yield output.to(hidden.device)

    def token_mean(self, measure: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> float:
        """Mean over all tokens of a measure of the part.

        Args:
            measure: from a batch's input and output, float32 [batch, length, hidden], to values [batch, length].
        """
        total, tokens = 0.0, 0
        for before, after in self.run():
            values = measure(before.float(), after.float())
            total += values.double().sum().item()
            tokens += values.numel()
        return total / tokens

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Output for one batch of hidden states, [batch, length, hidden], with gradients if they are enabled."""
        self.samples_run += len(hidden)
        return self.module(hidden, **self._arguments[hidden.shape[0]])

    def changed(self) -> None:
        """Drop the cached outputs. Call after changing weights in place."""
        self._outputs = None

    def leave(self, outputs: list[torch.Tensor]) -> None:
        """Set the next layer's inputs, batches of float [batch, length, hidden], in place of this layer's outputs."""
        self._outputs = outputs

    def park(self) -> None:
        """Move the inputs to host memory. A run of the layer fetches them batch by batch."""
        self.inputs = [hidden.cpu() for hidden in self.inputs]

    def outputs(self) -> list[torch.Tensor]:
        """The next layer's inputs: the cached outputs, or those of a new run if none are cached."""
        if self._outputs is None:
            for _ in self.run():
                pass
        assert self._outputs is not None
        return self._outputs


def _in_float32(value: Any) -> Any:
    """``value`` with every floating-point tensor within it in float32."""
    if isinstance(value, dict):
        return {key: _in_float32(held) for key, held in value.items()}
    if isinstance(value, tuple):
        return tuple(_in_float32(held) for held in value)
    return value.float() if getattr(value, "is_floating_point", bool)() else value


class LayerStream:
    """Iterates over a model's decoder layers and carries calibration samples through them.

    Args:
        source: model folder or loaded model, of any supported family, with layers of any width.
        input_ids: int64 [samples, length], no padding.
        runtime: its device holds the current layer and the hidden states.
        description: label of the progress bar.
        layers: indices of the layers to run, ascending; the others are skipped. None means all.
        part: ``layer``, or the ``attention`` or ``mlp`` block to measure in each layer. For a block, ``layers`` lists
            the layers that have this block; the others run without it and are not yielded.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | PreTrainedModel,
        input_ids: torch.Tensor,
        runtime: Runtime = ON_CPU,
        *,
        description: str = "layers",
        layers: Sequence[int] | None = None,
        part: str = "layer",
    ) -> None:
        if isinstance(source, str | os.PathLike):
            read_architecture(source)  # refuses a folder whose tensors are not those of its config.json
        self.source = source
        self.input_ids = input_ids
        self.runtime = runtime
        self.description = description
        self.part = part
        self.layers = tuple(range(self._config()["num_hidden_layers"]) if layers is None else layers)
        self.endings: list[list[torch.Tensor]] = []
        """Outputs of the last layer in the latest pass: of the whole model, then of each branch. Empty without
        branches."""
        self._samples_run = [0]

    @property
    def evaluations(self) -> float:
        """Layer evaluations so far, each of all samples."""
        return self._samples_run[0] / len(self.input_ids)

    def over(self, layers: Sequence[int]) -> LayerStream:
        """A stream of the same samples in which only these layers exist, or have the part. Both streams count their
        evaluations together."""
        reduced = copy.copy(self)
        reduced.layers = tuple(layers)
        return reduced

    def __iter__(self) -> Iterator[StreamedLayer]:
        import torch

        from llm_pruner.models.carried.ragged import without_block
        from llm_pruner.models.skeleton import assign, compute_buffers, enter, take_layers

        weights = read_weights(self.source)
        model = self._skeleton()
        modules = take_layers(model)
        with torch.no_grad():
            hidden, arguments = enter(
                model, weights, self.input_ids.split(self.runtime.batch_size), len(modules), self.runtime.device
            )
        visited = self.layers if self.part == "layer" else range(len(modules))
        branches: list[list[torch.Tensor]] = []
        self.endings = []
        for index in track(visited, self.description, "layer", show=self.runtime.progress):
            module = modules[index]
            assign(module, weights.layer(index), self.runtime.device)
            compute_buffers(model, module, self.runtime.device)
            yielded = index in self.layers
            if not yielded:
                module = without_block(module, self.part, index)
            layer = StreamedLayer(index, module, hidden, arguments[index], self.runtime.device, self.part)
            if yielded:
                yield layer
            branches = [list(layer.apply(batches)) for batches in branches]
            if layer.branch:
                branches.append(layer.branch)
            if branches or index != visited[-1]:
                hidden = layer.outputs()
            self._samples_run[0] += layer.samples_run
            modules[index].to("meta")
            release_freed_memory()
        if branches:
            self.endings = [hidden, *branches]

    def backwards(self, layers: Sequence[StreamedLayer]) -> Iterator[StreamedLayer]:
        """Layers of a finished pass, last first. Each returns to the device at its turn."""
        from llm_pruner.models.skeleton import assign, compute_buffers

        model, weights = self._skeleton(), read_weights(self.source)
        for layer in track(list(reversed(layers)), f"{self.description}, back", "layer", show=self.runtime.progress):
            assign(layer.module, weights.layer(layer.index), self.runtime.device)
            compute_buffers(model, layer.module, self.runtime.device)
            yield layer
            layer.module.to("meta")
            release_freed_memory()

    def head(self, reduction: str = "mean") -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """The final norm, the output layer and the loss.

        Args:
            reduction: ``mean``, or ``none`` for the loss of every token.

        Returns:
            A function from hidden states [batch, length, hidden] and ids [batch, length] to the next-token loss in
            nats: a scalar, or [batch, length − 1] for ``none``.
        """
        import torch

        from llm_pruner.models.skeleton import output_head

        head = output_head(self._skeleton(), read_weights(self.source), self.runtime.device)

        def loss(hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
            logits = head(inputs_embeds=hidden[:, :-1].to(self.runtime.device)).logits.float()
            targets = ids[:, 1:].to(self.runtime.device)
            # flattened: a loss over a vocabulary that is not the last dimension is slower and less exact
            losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction=reduction)
            return losses.view(targets.shape) if reduction == "none" else losses

        return loss

    def losses(self, *endings: Sequence[torch.Tensor]) -> list[list[float]]:
        """Mean next-token loss in nats of every sample, for one or more outputs of the last layer.

        Args:
            endings: outputs of the last layer, each as the batches of all samples.

        Returns:
            One list of losses, in the order of the samples, for each of ``endings``.

        Raises:
            CheckpointError: if a loss is not finite.
        """
        import torch

        head, batches = self.head("none"), self.input_ids.split(self.runtime.batch_size)
        with torch.no_grad():
            losses = [
                [
                    loss
                    for hidden, ids in zip(ending, batches, strict=True)
                    for loss in head(hidden, ids).double().mean(dim=1).tolist()
                ]
                for ending in endings
            ]
        if not all(math.isfinite(loss) for ending in losses for loss in ending):
            place = self.source if isinstance(self.source, str | os.PathLike) else "the loaded model"
            raise CheckpointError(
                f"{place}: the loss of calibration samples is not finite; "
                "the weights overflow in this dtype or are damaged"
            )
        return losses

    def _config(self) -> dict[str, Any]:
        """The contents of the model's config.json."""
        if isinstance(self.source, str | os.PathLike):
            return read_config(self.source)
        return dict(self.source.config.to_dict())

    def _skeleton(self) -> Any:
        """The model without weights, in evaluation mode."""
        from transformers import AutoConfig

        from llm_pruner.models.skeleton import skeleton

        if isinstance(self.source, str | os.PathLike):
            config = AutoConfig.from_pretrained(self.source)
        else:
            config = copy.deepcopy(self.source.config)
        return skeleton(model_class(self._config()), config)

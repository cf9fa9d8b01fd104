"""Calibration through a model one layer at a time: a layer's weights are read from disk when its turn comes.

The only loop over decoder layers. Peak memory is one layer plus the hidden states of the calibration samples,
whatever the depth of the model.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from llm_pruner.models.architecture import read_config
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
    """One decoder layer on the device, with the hidden states that enter it; or one of its blocks within it.

    Args:
        part: what ``run`` and ``branch_off`` are about: the whole ``layer``, or its ``attention`` or ``mlp`` block with
            the norm in front.
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
        """Samples that went through the layer so far, each as often as it did."""
        self.branch: list[torch.Tensor] | None = None
        """What leaves the layer without the part, once ``branch_off`` was called."""
        self._arguments = arguments
        self._outputs: list[torch.Tensor] | None = None

    def run(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Run every batch through the layer as it is now.

        Yields:
            What enters the part and what leaves it, each [batch, length, hidden].
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
        """Carry the samples along, from here to the end of the model, also without this part; see ``endings``."""
        batches = self.inputs if self.part == "layer" else self.without(self.part)
        self.branch = [hidden.cpu() for hidden in batches]

    def without(self, block: str) -> list[torch.Tensor]:
        """What leaves the layer, for the inputs it has now, if its ``attention`` or its ``mlp`` block added nothing."""
        from llm_pruner.models.carried.ragged import without_block

        whole, self.module = self.module, without_block(self.module, block, self.index)
        outputs = list(self.apply(self.inputs))
        self.module = whole
        return outputs

    def through(self, block: str, batches: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Run hidden states of the samples through one block alone: each batch's output, [batch, length, hidden]."""
        yield from self.alone(block).apply(batches)

    def alone(self, block: str) -> StreamedLayer:
        """The layer with one block alone; weights are shared."""
        from llm_pruner.models.carried.ragged import without_block

        alone = copy.copy(self)
        alone.module = without_block(self.module, "attention" if block == "mlp" else "mlp", self.index)
        return alone

    def in_float32(self) -> StreamedLayer:
        """A copy that computes in float32, with weights of its own."""
        exact = copy.copy(self)
        exact.module = copy.deepcopy(self.module).float()
        exact._arguments = _in_float32(self._arguments)
        return exact

    def apply(self, batches: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Run other hidden states of the samples through the layer: each batch's output, [batch, length, hidden]."""
        import torch

        for hidden in batches:
            with torch.no_grad():
                output = self(hidden.to(self.device))
            yield output.to(hidden.device)

    def token_mean(self, measure: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> float:
        """Mean over all tokens of what ``measure`` makes, [batch, length], of a batch's input and output in float32."""
        total, tokens = 0.0, 0
        for before, after in self.run():
            values = measure(before.float(), after.float())
            total += values.double().sum().item()
            tokens += values.numel()
        return total / tokens

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """The output for one batch of hidden states, [batch, length, hidden], with gradients where they are enabled."""
        self.samples_run += len(hidden)
        return self.module(hidden, **self._arguments[hidden.shape[0]])

    def changed(self) -> None:
        """Call after changing weights in place: drops the cached outputs."""
        self._outputs = None

    def leave(self, outputs: list[torch.Tensor]) -> None:
        """Set the next layer's inputs, batches of float [batch, length, hidden], in place of this one's outputs."""
        self._outputs = outputs

    def park(self) -> None:
        """Keep the inputs in host memory; running the layer fetches them batch by batch."""
        self.inputs = [hidden.cpu() for hidden in self.inputs]

    def outputs(self) -> list[torch.Tensor]:
        """What enters the next layer; computed unless ``run`` already did and nothing changed since."""
        if self._outputs is None:
            for _ in self.run():
                pass
        assert self._outputs is not None
        return self._outputs


def _in_float32(value: Any) -> Any:
    """The same with every tensor of floats in it in float32."""
    if isinstance(value, dict):
        return {key: _in_float32(held) for key, held in value.items()}
    if isinstance(value, tuple):
        return tuple(_in_float32(held) for held in value)
    return value.float() if getattr(value, "is_floating_point", bool)() else value


class LayerStream:
    """Iterates over a model's decoder layers, carrying calibration samples through them.

    Args:
        source: model folder, or a loaded model; any supported family, layers of any width.
        input_ids: int64 [samples, length], no padding.
        runtime: its device is where the current layer and the hidden states live.
        layers: indices of the layers to run, in order, as if the others were not there; all by default.
        part: ``layer``, or the ``attention`` or ``mlp`` block that is measured of each. ``layers`` then lists the
            layers that have this block; the others run without it and are not yielded.
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
        self.source = source
        self.input_ids = input_ids
        self.runtime = runtime
        self.description = description
        self.part = part
        self.layers = tuple(range(self._config()["num_hidden_layers"]) if layers is None else layers)
        self.endings: list[list[torch.Tensor]] = []
        """What left the last layer in the latest pass: of the whole model, then of each branch. Only where there are
        branches."""
        self._samples_run = [0]

    @property
    def evaluations(self) -> float:
        """Layer evaluations so far, each of all samples."""
        return self._samples_run[0] / len(self.input_ids)

    def over(self, layers: Sequence[int]) -> LayerStream:
        """The same samples as if only these layers were there, or had the part; evaluations are counted together."""
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
            given_out = index in self.layers
            if not given_out:
                module = without_block(module, self.part, index)
            layer = StreamedLayer(index, module, hidden, arguments[index], self.runtime.device, self.part)
            if given_out:
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
        """The layers of a pass that is through, last first, each brought back to the device when its turn comes."""
        from llm_pruner.models.skeleton import assign, compute_buffers

        model, weights = self._skeleton(), read_weights(self.source)
        for layer in track(list(reversed(layers)), f"{self.description}, back", "layer", show=self.runtime.progress):
            assign(layer.module, weights.layer(layer.index), self.runtime.device)
            compute_buffers(model, layer.module, self.runtime.device)
            yield layer
            layer.module.to("meta")
            release_freed_memory()

    def head(self, reduction: str = "mean") -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """What follows the last layer.

        Returns:
            A function of hidden states [batch, length, hidden] and ids [batch, length] that gives the next-token loss
            in nats: the mean, or with ``none`` that of every token, [batch, length − 1].
        """
        import torch

        from llm_pruner.models.skeleton import output_head

        head = output_head(self._skeleton(), read_weights(self.source), self.runtime.device)

        def loss(hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
            logits = head(inputs_embeds=hidden[:, :-1].to(self.runtime.device)).logits.float()
            targets = ids[:, 1:].to(self.runtime.device)
            # flat: across a vocabulary that is not the last dimension it is slower, and sums less exactly
            losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction=reduction)
            return losses.view(targets.shape) if reduction == "none" else losses

        return loss

    def losses(self, *endings: Sequence[torch.Tensor]) -> list[list[float]]:
        """Mean next-token loss in nats of every sample, for each way in which hidden states may leave the last layer.

        Args:
            endings: each the batches of all samples.

        Raises:
            CheckpointError: if one is not finite.
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
        """The model's own config.json."""
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

"""What an error of a block's output amounts to in the residual stream, so that errors of different layers compare."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_pruner.models.layout import BLOCKS, linears_among, norm_layout, output_linears

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.stream import StreamedLayer


@contextmanager
def stream_weights(layer: StreamedLayer) -> Iterator[dict[str, float]]:
    """Weigh errors of the linear layers that write the residual stream while the layer runs.

    A norm follows that divides every token by its own norm, so the weight is the mean over tokens of one over the
    squared norm of the stream behind the block: a few tokens of huge norm do not hide the others. It is multiplied by
    what stands between the output and the stream, a norm behind the block or a factor: the squared norm of what the
    block adds, by that of the output.

    Yields:
        The weights by name of the linear layer, filled in when the context ends.
    """
    weights: dict[str, float] = {}
    writers = output_linears(linears_among({name for name, _ in layer.module.named_parameters()}))
    between = norm_layout(name for name, _ in layer.module.named_children()).between
    passed: list[torch.Tensor] = []  # of the forward pass of one batch: the stream so far
    behind = {block: _Behind() for block in BLOCKS}

    def enter(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        passed[:] = [inputs[0]]

    def middle(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        behind["attention"].add(passed[-1], inputs[0])
        passed[:] = [inputs[0]]

    def leave(_module: torch.nn.Module, _inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        behind["mlp"].add(passed.pop(), output)

    handles = [
        layer.module.register_forward_pre_hook(enter),
        layer.module.get_submodule(between).register_forward_pre_hook(middle),
        layer.module.register_forward_hook(leave),
        *(
            layer.module.get_submodule(name).register_forward_hook(behind[block].write)
            for block, name in writers.items()
        ),
    ]
    try:
        yield weights
    finally:
        for handle in handles:
            handle.remove()
    weights.update({name: behind[block].weight() for block, name in writers.items()})


@dataclass
class _Behind:
    """Sums over tokens of a block."""

    tokens: int = 0
    written: float = 0.0
    """Squared norm of what its last linear layer gives."""
    added: float = 0.0
    """Squared norm of what it adds to the stream."""
    inverse: float = 0.0
    """One over the squared norm of the stream behind it."""

    def write(self, _module: torch.nn.Module, _inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        self.written += output.float().square().sum().item()

    def add(self, before: torch.Tensor, after: torch.Tensor) -> None:
        self.tokens += after[..., 0].numel()
        self.added += (after.float() - before.float()).square().sum().item()
        energy = after.float().square().sum(dim=-1)
        self.inverse += energy.clamp(min=1e-30).reciprocal().sum().item()

    def weight(self) -> float:
        return self.added / self.written * self.inverse / self.tokens if self.written else 0.0

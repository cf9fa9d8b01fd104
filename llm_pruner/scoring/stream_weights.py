"""Weights from an error of a block's output to a relative error of the residual stream, comparable between layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_pruner.models.layout import BLOCKS, linears_among, norm_layout, output_linears

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.stream import StreamedLayer


def token_energies(stream: torch.Tensor) -> torch.Tensor:
    """Squared norm of each token's hidden state, for a residual stream [..., hidden]: float32 [...], at least 1e-30.

    A token's weight in errors is the reciprocal, because the next norm divides each token by its own norm.
    """
    return stream.float().square().sum(dim=-1).clamp(min=1e-30)


@contextmanager
def stream_weights(layer: StreamedLayer) -> Iterator[dict[str, float]]:
    """Context that, while the layer runs, measures weights for errors of the linear layers that write the stream.

    The next norm divides every token by its own norm. The weight is therefore the mean over tokens of
    1 / ‖stream after the block‖², in which a few tokens of huge norm do not hide the others. If a norm or a factor
    stands between the linear layer and the stream, the weight is multiplied by its gain: the squared norm of the
    block's contribution to the stream over the squared norm of the linear layer's output.

    Yields:
        Weights by name of the linear layer, filled in at the end of the context.
    """
    weights: dict[str, float] = {}
    writers = output_linears(linears_among({name for name, _ in layer.module.named_parameters()}))
    between = norm_layout(name for name, _ in layer.module.named_children()).between
    passed: list[torch.Tensor] = []  # of the current batch: the stream so far
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
    """Sums over tokens, of one block."""

    tokens: int = 0
    written: float = 0.0
    """Squared norm of the last linear layer's output."""
    added: float = 0.0
    """Squared norm of the block's contribution to the stream."""
    inverse: float = 0.0
    """1 / squared norm of the stream after the block."""

    def write(self, _module: torch.nn.Module, _inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        self.written += output.float().square().sum().item()

    def add(self, before: torch.Tensor, after: torch.Tensor) -> None:
        self.tokens += after[..., 0].numel()
        self.added += (after.float() - before.float()).square().sum().item()
        self.inverse += token_energies(after).reciprocal().sum().item()

    def weight(self) -> float:
        return self.added / self.written * self.inverse / self.tokens if self.written else 0.0

"""The dense model's residual stream, and the outputs with which a repaired linear layer restores it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_pruner.models.layout import BLOCKS, linears_among, output_linears

if TYPE_CHECKING:
    import torch

    from llm_pruner.scoring.stream import StreamedLayer

_ROUNDING = 1e-3
"""Largest rounding difference between two parallel vectors, as one minus the squared cosine."""


@dataclass
class DenseStates:
    """The dense model's residual stream behind the two blocks of a layer."""

    streams: dict[str, list[torch.Tensor]]
    """Batches of the stream behind each block, float [batch, length, hidden]."""
    factors: dict[str, float]
    """Factors by block between the output of the last linear layer and the block's contribution to the stream. A block
    with a norm in between has no factor."""

    @classmethod
    def of(cls, dense: StreamedLayer) -> DenseStates:
        """Run a layer of the dense model on its own hidden states. The layer's ``part`` becomes ``mlp``."""
        writers = output_linears(linears_among(dict(dense.module.named_parameters())))
        written: dict[str, torch.Tensor] = {}
        shares = {block: _Share() for block in writers}

        def keep(block: str) -> Callable[..., None]:
            def hook(_module: torch.nn.Module, _inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
                written[block] = output

            return hook

        handles = [
            dense.module.get_submodule(name).register_forward_hook(keep(block)) for block, name in writers.items()
        ]
        states = cls({block: [] for block in BLOCKS}, {})
        dense.part = "mlp"
        try:
            for number, (middle, output) in enumerate(dense.run()):
                states.streams["attention"].append(middle)
                states.streams["mlp"].append(output)
                for block, share in shares.items():
                    share.add(written[block], states.change(block, number, dense.inputs[number], middle))
        finally:
            for handle in handles:
                handle.remove()
        states.factors = {block: factor for block, share in shares.items() if (factor := share.factor()) is not None}
        return states

    def behind(self, batch: int) -> dict[str, torch.Tensor]:
        """The stream behind each block, for one batch: float [batch, length, hidden]."""
        return {block: batches[batch] for block, batches in self.streams.items()}

    def change(self, block: str, batch: int, entered: torch.Tensor, middle: torch.Tensor) -> torch.Tensor:
        """The contribution of a block that restores the dense stream: float [batch, length, hidden].

        Args:
            entered: the stream in front of the layer to repair, [batch, length, hidden].
            middle: the stream between its attention and its MLP, [batch, length, hidden].
        """
        before = entered if block == "attention" else middle
        return self.streams[block][batch].to(middle.device) - before.to(middle.device)

    def wanted(self, block: str, batch: int, entered: torch.Tensor, middle: torch.Tensor) -> torch.Tensor:
        """The output of the block's last linear layer for that ``change``. The block must have a factor."""
        return self.change(block, batch, entered, middle) / self.factors[block]


@dataclass
class _Share:
    """Sums over tokens that compare a linear layer's output with its block's contribution to the stream."""

    written: float = 0.0
    added: float = 0.0
    both: float = 0.0

    def add(self, written: torch.Tensor, added: torch.Tensor) -> None:
        written, added = written.float(), added.to(written.device).float()
        self.written += written.square().sum().item()
        self.added += added.square().sum().item()
        self.both += (written * added).sum().item()

    def factor(self) -> float | None:
        """The factor from output to contribution; None if the two are not parallel."""
        alike = self.both**2 > (1 - _ROUNDING) * self.written * self.added
        return self.both / self.written if alike and self.written else None

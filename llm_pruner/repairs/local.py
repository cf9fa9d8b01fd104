from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, PositiveFloat

from llm_pruner.repairs.base import Removed, Repair
from llm_pruner.repairs.finished import FinishedBlocks
from llm_pruner.repairs.linear import RepairOptions
from llm_pruner.repairs.records import BlockRepairRecord
from llm_pruner.repairs.walk import fitted_samples, repair_model
from llm_pruner.system.options import Count, Seed
from llm_pruner.system.runtime import Runtime

if TYPE_CHECKING:
    import torch


class LocalOptions(RepairOptions):
    """Options of local reconstruction; unknown keys are refused."""

    epochs: int = Field(default=5, ge=1, le=10_000)
    """Passes over the samples to train each block. Held-out samples measure the error after each pass."""
    learning_rate: PositiveFloat = 0.005
    """Peak learning rate of Adam, in units of the root mean square weight of each linear layer: about the relative
    change of a weight by one update."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the updates in which the learning rate rises. It then falls linearly to zero."""
    batch_size: Count = 2
    """Samples for each update."""
    seed: Seed = 0
    """Seed of the order of the samples."""


class LocalReconstruction(Repair):
    """Trains all linear layers of one block at a time to restore the dense model's residual stream behind the block.

    Unlike a regression of single linear layers, the training accounts for the nonlinear parts of a block.
    """

    title = "Local reconstruction: each block trained to restore the dense model's residual stream"
    paper = (
        "Wagner et al., A Free Lunch in LLM Compression: Revisiting Retraining after Pruning, 2025 (arXiv:2510.14444)"
    )
    told = "blocks"
    Options = LocalOptions
    options: LocalOptions

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
    ) -> list[BlockRepairRecord]:
        from llm_pruner.models.architecture import read_config, refuse_sliced
        from llm_pruner.repairs.reconstruction import repair_blocks

        assert input_ids is not None
        refuse_sliced(read_config(base), base)
        samples = input_ids[: self.options.samples]
        batch = min(self.options.batch_size, fitted_samples(len(samples), self.options.held_out))
        # a divisor of the update's samples, so that all batches have one size
        at_once = max(size for size in range(1, batch + 1) if batch % size == 0 and size <= runtime.batch_size)
        finished = FinishedBlocks.of(resume_point, base, samples, self.options)
        return repair_model(
            base,
            output,
            removed,
            self.options,
            partial(repair_blocks, self.options, finished, at_once),
            samples,
            replace(runtime, batch_size=at_once),
            description=description,
        )

"""Sparsity: single weights become zero, unstructured or N of every M."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llm_pruner.mechanisms.base import RATIO, Amount, Mechanism, read_number, read_ratio, write_ratio
from llm_pruner.mechanisms.sparse.options import SparseOptions
from llm_pruner.mechanisms.sparse.records import MeasuresFile
from llm_pruner.planning.allocations.choice import UNIFORM
from llm_pruner.system.errors import ConfigError, PlanError

if TYPE_CHECKING:
    from llm_pruner.models.architecture import Architecture
    from llm_pruner.variants.variant import Variant

_FREE = "unstructured"


class Sparse(Mechanism):
    """Zeroes single weights of the linear layers, unstructured or N of every M."""

    name = "sparse"
    suffix = rf"{_FREE}_{RATIO}|\d+of\d+"
    reserved = (_FREE,)
    examples = (f"_{_FREE}_5000", "_2of4")
    structures = (_FREE, "N:M, such as 2:4")
    masks = True
    ranks_layers = True
    thins_layers = True
    measure_with = "llm_pruner.mechanisms.sparse.score"
    Scores = MeasuresFile
    prune_with = "llm_pruner.mechanisms.sparse.prune"
    Options = SparseOptions

    def unit(self, options: Mapping[str, Any]) -> str:
        return "weights"

    def describe(self, amount: float, unit: str) -> str:
        return f"{super().describe(amount, unit)} zeros"

    def read(self, suffix: str) -> Amount:
        if suffix.startswith(_FREE):
            return Amount(_FREE, read_ratio(suffix.removeprefix(f"{_FREE}_")))
        n, m = map(read_number, suffix.split("of"))
        if not 0 < n < m:
            raise ConfigError([f"N:M sparsity needs 0 < N < M, not {n}:{m}"])
        return Amount(f"{n}:{m}", n / m)

    def owns(self, structure: str) -> bool:
        return structure in (self.name, _FREE) or bool(re.fullmatch(r"\d+:\d+", structure))

    def write(self, structure: str, amount: float | None) -> str:
        if ":" not in structure:
            return f"_{_FREE}_{write_ratio(amount)}"
        n, m = map(read_number, structure.split(":"))
        if amount is not None and m and abs(amount - n / m) > 1e-9:
            raise ConfigError([f"{structure} removes {n / m:g}, not {amount:g}"])
        return f"_{n}of{m}"

    def check(self, variant: Variant, architecture: Architecture, tokens: int | None = None) -> None:
        if ":" not in variant.structure:
            return
        m = int(variant.structure.split(":")[1])
        for name, tensor in architecture.linears().items():
            if tensor.shape[1] % m:
                raise PlanError(f"{name.removesuffix('.weight')} has {tensor.shape[1]} inputs, not a multiple of {m}")

    def varies(self, options: Mapping[str, Any]) -> bool:
        return options.get("allocation", UNIFORM) != UNIFORM

"""Options of every method that zeroes single weights."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from llm_pruner.mechanisms.base import MechanismOptions
from llm_pruner.planning.allocations.base import Allocation, Ranking
from llm_pruner.planning.allocations.choice import ALLOCATION, UNIFORM
from llm_pruner.repairs.choice import NONE, REPAIR
from llm_pruner.system.choice import Choice

if TYPE_CHECKING:
    from llm_pruner.methods.base import Method


class SparseOptions(MechanismOptions):
    mechanism = "sparse"
    chosen: ClassVar = {"allocation": ALLOCATION, "repair": REPAIR}

    allocation: Choice = Field(default=UNIFORM, json_schema_extra=partial(ALLOCATION.schema, mechanism="sparse"))
    """How layers share the zeros of unstructured sparsity: the name of an allocation, or the name with its options,
    ``{owl: {threshold: 3}}``."""
    repair: Choice = Field(default=NONE, json_schema_extra=partial(REPAIR.schema, mechanism="sparse"))
    """What the weights that stay become: the name of a repair, or the name with its options,
    ``{least_squares: {ridge: 0.1}}``."""

    @classmethod
    def understands(cls, key: str, value: Any, structure: str) -> bool:
        if key == "allocation" and ":" in structure:
            return value == UNIFORM
        return super().understands(key, value, structure)

    def problems_with(self, method: type[Method], structure: str) -> list[str]:
        if ":" not in structure or self.allocation == UNIFORM:
            return []
        name, _ = ALLOCATION.split(self.allocation)
        return [
            f"allocation: {name} gives layers different ratios, but {structure} is the same in every layer, which is "
            f"what kernels for it need; leave it out, or write {method.name}_unstructured_..."
        ]

    @property
    def sharing(self) -> Allocation:
        """The allocation that was chosen."""
        return ALLOCATION.make(self.allocation)

    @property
    def ranking(self) -> Ranking | None:
        return self.sharing.ranking

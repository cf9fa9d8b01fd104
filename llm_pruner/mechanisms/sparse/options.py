"""Options of every method that zeroes single weights."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from llm_pruner.mechanisms.base import MechanismOptions
from llm_pruner.planning.allocations.base import Allocation, Ranking
from llm_pruner.planning.allocations.choice import (
    UNIFORM,
    Choice,
    choice_schema,
    make_allocation,
    may_choose,
    option_of,
    read_choice,
    split_choice,
)

if TYPE_CHECKING:
    from llm_pruner.methods.base import Method


class SparseOptions(MechanismOptions):
    allocation: Choice = Field(default=UNIFORM, json_schema_extra=partial(choice_schema, mechanism="sparse"))
    """How layers share the zeros of unstructured sparsity: the name of an allocation, or the name with its options,
    ``{owl: {threshold: 3}}``."""

    @field_validator("allocation", mode="before")
    @classmethod
    def _is_allocation(cls, value: Any) -> Choice:
        return read_choice(value, "sparse")

    @classmethod
    def understands(cls, key: str, value: Any, structure: str) -> bool:
        if key == "allocation" and ":" in structure:
            return value == UNIFORM
        return super().understands(key, value, structure) and (key != "allocation" or may_choose(value, "sparse"))

    @classmethod
    def elsewhere(cls, key: str) -> str | None:
        return option_of(key, "sparse")

    def problems_with(self, method: type[Method], structure: str) -> list[str]:
        if ":" not in structure or self.allocation == UNIFORM:
            return []
        name, _ = split_choice(self.allocation)
        return [
            f"allocation: {name} gives layers different ratios, but {structure} is the same in every layer, which is "
            f"what kernels for it need; leave it out, or write {method.name}_unstructured_..."
        ]

    @property
    def sharing(self) -> Allocation:
        """The allocation that was chosen."""
        return make_allocation(self.allocation)

    @property
    def ranking(self) -> Ranking | None:
        return self.sharing.ranking

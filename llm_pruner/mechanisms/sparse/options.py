"""Options of every method that zeroes single weights."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from llm_pruner.mechanisms.base import MechanismOptions
from llm_pruner.methods.base import CalibratedOptions, WeightSolver
from llm_pruner.planning.allocations.base import Allocation, Ranking
from llm_pruner.planning.allocations.choice import ALLOCATION, UNIFORM
from llm_pruner.refinements.base import Refinement
from llm_pruner.refinements.choice import REFINEMENT, UNREFINED
from llm_pruner.repairs.choice import NONE, REPAIR
from llm_pruner.system.choice import Choice

if TYPE_CHECKING:
    from llm_pruner.methods.base import Method


class SparseOptions(MechanismOptions):
    mechanism = "sparse"
    chosen: ClassVar = {"allocation": ALLOCATION, "refine": REFINEMENT, "repair": REPAIR}

    allocation: Choice = Field(default=UNIFORM, json_schema_extra=partial(ALLOCATION.schema, mechanism="sparse"))
    """How layers share the zeros of unstructured sparsity: the name of an allocation, or the name with its options,
    ``{owl: {threshold: 3}}``."""
    refine: Choice = Field(default=UNREFINED, json_schema_extra=partial(REFINEMENT.schema, mechanism="sparse"))
    """What exchanges zeroed weights for others once the mask is chosen: the name of a refinement, or the name with its
    options, ``{dsnot: {cycles: 10}}``."""
    repair: Choice = Field(default=NONE, json_schema_extra=partial(REPAIR.schema, mechanism="sparse"))
    """What the weights that stay become: the name of a repair, or the name with its options,
    ``{least_squares: {ridge: 0.1}}``."""

    @classmethod
    def understands(cls, key: str, value: Any, structure: str) -> bool:
        if key == "allocation" and ":" in structure:
            return value == UNIFORM
        return super().understands(key, value, structure)

    def problems_with(self, method: type[Method], structure: str) -> list[str]:
        problems = self._cannot_refine(method)
        if ":" not in structure or self.allocation == UNIFORM:
            return problems
        name, _ = ALLOCATION.split(self.allocation)
        return [
            *problems,
            f"allocation: {name} gives layers different ratios, but {structure} is the same in every layer, which is "
            f"what kernels for it need; leave it out, or write {method.name}_unstructured_...",
        ]

    def _cannot_refine(self, method: type[Method]) -> list[str]:
        """What is wrong with the refinement for this method."""
        if self.refine == UNREFINED:
            return []
        name, _ = REFINEMENT.split(self.refine)
        if issubclass(method, WeightSolver):
            return [
                f"refine: {name} exchanges weights that keep their values, but {method.name} has changed those that "
                "stay to make up for the ones that go; leave it out"
            ]
        if not issubclass(method.Options, CalibratedOptions):
            return [f"refine: {name} goes by calibration samples, and {method.name} looks at none; leave it out"]
        return []

    @property
    def refinement(self) -> Refinement:
        """The refinement that was chosen."""
        made: Refinement = REFINEMENT.make(self.refine)
        return made

    @property
    def sharing(self) -> Allocation:
        """The allocation that was chosen."""
        return ALLOCATION.make(self.allocation)

    @property
    def ranking(self) -> Ranking | None:
        return self.sharing.ranking

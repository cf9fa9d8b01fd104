"""Options of all methods that zero single weights."""

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
    """Options of sparsity, for every method."""

    mechanism = "sparse"
    chosen: ClassVar = {"allocation": ALLOCATION, "refine": REFINEMENT, "repair": REPAIR}

    allocation: Choice = Field(default=UNIFORM, json_schema_extra=partial(ALLOCATION.schema, mechanism="sparse"))
    """Allocation: the rule for how layers share the zeros of unstructured sparsity. A name, or a name with options,
    such as ``{owl: {threshold: 3}}``."""
    refine: Choice = Field(default=UNREFINED, json_schema_extra=partial(REFINEMENT.schema, mechanism="sparse"))
    """Refinement: the exchange of zeroed and kept weights after the mask is chosen. A name, or a name with options,
    such as ``{dsnot: {cycles: 10}}``."""
    repair: Choice = Field(default=NONE, json_schema_extra=partial(REPAIR.schema, mechanism="sparse"))
    """Repair: the change of the kept weights after the mask is chosen. A name, or a name with options, such as
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
            f"allocation: {name} gives layers different ratios, but kernels need {structure} in every layer; leave "
            f"allocation out, or write {method.name}_unstructured_...",
        ]

    def _cannot_refine(self, method: type[Method]) -> list[str]:
        """Reasons why the method cannot have the refinement."""
        if self.refine == UNREFINED:
            return []
        name, _ = REFINEMENT.split(self.refine)
        if issubclass(method, WeightSolver):
            return [
                f"refine: {name} exchanges weights with their original values, but {method.name} changes the kept "
                "weights; leave refine out"
            ]
        if not issubclass(method.Options, CalibratedOptions):
            return [f"refine: {name} needs calibration samples, but {method.name} uses none; leave refine out"]
        return []

    @property
    def refinement(self) -> Refinement:
        """The chosen refinement."""
        made: Refinement = REFINEMENT.make(self.refine)
        return made

    @property
    def sharing(self) -> Allocation:
        """The chosen allocation."""
        return ALLOCATION.make(self.allocation)

    @property
    def ranking(self) -> Ranking | None:
        return self.sharing.ranking

"""The making of a variant, as a file."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from llm_pruner.mechanisms import MECHANISMS, get_mechanism
from llm_pruner.repairs.records import RepairRecord
from llm_pruner.steps.records import StepRecord
from llm_pruner.system.errors import nearest
from llm_pruner.system.records import Part, Record, RunRecord


class AmountRecord(Part):
    """An amount to remove, or removed."""

    amount: float
    """Share or number."""
    of: str
    """Quantity that ``amount`` counts."""


class SecondsRecord(Part):
    """Times of the jobs."""

    scoring: float
    """Seconds of the scores, which variants share."""
    pruning: float
    """Seconds of the job that made the pruned model."""
    total: float
    """Sum of all seconds."""
    steps: float = 0.0
    """Seconds of the steps after pruning."""


class LayerShareRecord(Part):
    """Share of a layer's linear weights that became zero."""

    index: int
    """Number of the layer, from 0."""
    asked: float
    """Requested share, by the allocation."""
    reached: float
    """Reached share."""


class PruningRecord(Record):
    """The making of a variant: method, mechanism, amount, options and times."""

    file: ClassVar[str] = "baselines/{variant}/pruning.json"

    variant: str
    """Name of the variant, such as ``GQA_2000+lora``."""
    method: str
    """Method, the criterion of the pruning."""
    mechanism: str
    """Mechanism, the kind of pruning."""
    structure: str
    """The mechanism, ``unstructured``, or a pattern ``N:M``."""
    parent: str | None
    """Variant that this variant was made from; null for the base."""
    asked: AmountRecord | None
    """Requested amount; null if nothing was to be removed."""
    reached: AmountRecord | None
    """Removed amount; null if nothing was to be removed."""
    options: dict[str, Any]
    """Options of the mechanism and of the method, defaults included."""
    notes: tuple[str, ...]
    """Notes for readers of the results."""
    scores: tuple[str, ...]
    """Names of the scores behind the plan."""
    seconds: SecondsRecord
    """Times of the jobs."""
    run: RunRecord
    """The last job."""
    layers: tuple[LayerShareRecord, ...] = ()
    """Shares of each layer, for variants with zeros."""
    repair: RepairRecord | None = None
    """Results of the repair; null without a repair."""
    steps: tuple[StepRecord, ...] = ()
    """Steps after pruning, in order."""
    plan: str | None = None
    """SHA-256 of the plan, however ``plan.json`` is laid out; null without a plan."""

    @field_validator("mechanism")
    @classmethod
    def _is_mechanism(cls, value: str) -> str:
        if value not in MECHANISMS:
            raise ValueError(f"no '{value}'{nearest(value, MECHANISMS)}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _of_before_the_list(cls, value: Any) -> Any:
        """Read files of older versions, which hold only the last step."""
        if not isinstance(value, dict) or "step" not in value:
            return value
        last = value["step"]
        rest = {key: held for key, held in value.items() if key != "step"}
        return rest if last is None else {"steps": [last], **rest}

    @model_validator(mode="after")
    def _says_every_step(self) -> Self:
        told = [step.name for step in self.steps]
        if told != self.variant.split("+")[1:]:
            raise ValueError(f"steps: {', '.join(told) or 'none'}, but '{self.variant}' has other steps")
        return self

    def amount_text(self, which: Literal["asked", "reached"]) -> str | None:
        """The ``asked`` or the ``reached`` amount, for people."""
        amount = self.asked if which == "asked" else self.reached
        return get_mechanism(self.mechanism).describe(amount.amount, amount.of) if amount else None

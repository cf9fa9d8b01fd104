"""How a variant was made, as a file."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from llm_pruner.mechanisms import MECHANISMS, get_mechanism
from llm_pruner.repairs.records import RepairRecord
from llm_pruner.steps.records import StepRecord
from llm_pruner.system.errors import nearest
from llm_pruner.system.records import Part, Record, RunRecord


class AmountRecord(Part):
    """How much goes."""

    amount: float
    """A share, or a number."""
    of: str
    """What it is a share or a number of."""


class SecondsRecord(Part):
    """Where the time went."""

    scoring: float
    """Of the scores it was planned from, which variants share."""
    pruning: float
    """Of the job that made the pruned model."""
    total: float
    """All of it."""
    steps: float = 0.0
    """Of the steps after pruning."""


class LayerShareRecord(Part):
    """The linear weights that a layer lost."""

    index: int
    """Of the layer, from 0."""
    asked: float
    """The share that was to become zero, by the allocation."""
    reached: float
    """The share that is."""


class PruningRecord(Record):
    """How a variant was made."""

    file: ClassVar[str] = "baselines/{variant}/pruning.json"

    variant: str
    """Name of the variant, such as ``GQA_2000+lora``."""
    method: str
    """What decided what goes."""
    mechanism: str
    """What could go."""
    structure: str
    """The mechanism, or the form of its amount: ``unstructured`` or ``N:M``."""
    parent: str | None
    """The variant it was made from; null for the base."""
    asked: AmountRecord | None
    """How much was to go; null where nothing was."""
    reached: AmountRecord | None
    """How much went."""
    options: dict[str, Any]
    """Of the mechanism and of the method, defaults included."""
    notes: tuple[str, ...]
    """What a reader of the results should know."""
    scores: tuple[str, ...]
    """Names of the scores it was planned from."""
    seconds: SecondsRecord
    """Where the time went."""
    run: RunRecord
    """The last job."""
    layers: tuple[LayerShareRecord, ...] = ()
    """How much went of each layer, where single weights did."""
    repair: RepairRecord | None = None
    """What a repair brought; null where there was none."""
    steps: tuple[StepRecord, ...] = ()
    """What was done to the pruned model, in order."""

    @field_validator("mechanism")
    @classmethod
    def _is_mechanism(cls, value: str) -> str:
        if value not in MECHANISMS:
            raise ValueError(f"no '{value}'{nearest(value, MECHANISMS)}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _of_before_the_list(cls, value: Any) -> Any:
        """Files were once written with the last step alone."""
        if not isinstance(value, dict) or "step" not in value:
            return value
        last = value["step"]
        rest = {key: held for key, held in value.items() if key != "step"}
        return rest if last is None else {"steps": [last], **rest}

    @model_validator(mode="after")
    def _says_every_step(self) -> Self:
        told = [step.name for step in self.steps]
        if told != self.variant.split("+")[1:]:
            raise ValueError(f"steps: {', '.join(told) or 'none'}, which is not every step of '{self.variant}'")
        return self

    def amount_text(self, which: Literal["asked", "reached"]) -> str | None:
        """How much was ``asked`` for or ``reached``, for people."""
        amount = self.asked if which == "asked" else self.reached
        return get_mechanism(self.mechanism).describe(amount.amount, amount.of) if amount else None

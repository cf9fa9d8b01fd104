"""What a step is: it makes a finished model of another. Files, records, rules and commands are shared by all steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from llm_pruner.system.options import Options as AnyOptions
from llm_pruner.system.registry import registered
from llm_pruner.system.runtime import ON_CPU, Runtime

if TYPE_CHECKING:
    from llm_pruner.steps.records import StepRecord

Need = Literal["base", "calibration", "healing", "held_out"]
"""What a step may read besides its parent: the folder of the dense model, the token files of calibration and healing,
and the token file that decisions on the way are judged by."""


@dataclass(frozen=True)
class StepInputs:
    """What a step is applied to, and where."""

    parent: Path
    """Folder of the model it starts from."""
    files: Mapping[Need, Path]
    """What it ``needs``, and nothing else."""
    name: str
    """Of the variant that is made, for progress bars."""
    sparse: bool
    """Whether zeros of the parent are to stay zero."""
    resume_point: Path | None = None
    """Folder for what an interrupted training goes on from; removed once the step is done."""
    runtime: Runtime = ON_CPU


@dataclass(frozen=True)
class StepOutcome:
    """What came of a step, as plain values."""

    summary: dict[str, Any]
    """The few numbers that ``pruning.json`` keeps; ``bytes``, ``before`` and ``after``, of weights in few bits."""
    details: dict[str, Any]
    """Everything, for ``step.json``; ``history`` of a training is drawn."""


class NamedStep(ABC):
    """What every step of either track says of itself: its name stands behind a plus."""

    title: ClassVar[str]
    """What it does, in a few words for people."""
    Options: ClassVar[type[AnyOptions]] = AnyOptions
    terminal: ClassVar[bool] = False
    """Whether no step can follow it."""
    gpu: ClassVar[bool] = False
    """Whether it can use a GPU; any other runs on the CPU."""

    options: AnyOptions

    def __init__(self, **options: Any) -> None:
        self.options = self.Options(**options)


class Step(NamedStep):
    """A step, made from its options. Importing its module must not import torch."""

    needs: ClassVar[tuple[Need, ...]] = ()

    @abstractmethod
    def apply(self, inputs: StepInputs, output: Path) -> StepOutcome:
        """Make the model folder ``output``, which appears only when complete; import what is heavy here.

        Raises:
            PrunerError: if it cannot be made; no model is written then.
        """

    @abstractmethod
    def describe(self, taken: StepRecord) -> str:
        """What came of it as one line for people."""


def step_class(implementation: str) -> type[Step]:
    """The class of ``module:Class``, as the registry names it."""
    found: type[Step] = registered(implementation)
    return found

"""Steps, which change a finished model into another. All steps share files, records, rules and commands."""

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
"""An input of a step besides its parent: the folder of the dense model, or the token file of calibration samples, of
healing samples or of held-out samples."""


@dataclass(frozen=True)
class StepInputs:
    """Inputs of a step."""

    parent: Path
    """Folder of the parent model."""
    files: Mapping[Need, Path]
    """Files that the step ``needs``, and no others."""
    name: str
    """Name of the new variant, for progress bars."""
    sparse: bool
    """Whether zeros of the parent must stay zero."""
    resume_point: Path | None = None
    """Folder for the resume point of a training; removed once the step is done."""
    runtime: Runtime = ON_CPU


@dataclass(frozen=True)
class StepOutcome:
    """Results of a step, as plain values."""

    summary: dict[str, Any]
    """The few numbers for ``pruning.json``; ``bytes`` with ``before`` and ``after`` for weights in few bits."""
    details: dict[str, Any]
    """All numbers, for ``step.json``; a figure shows the ``history`` of a training."""


class NamedStep(ABC):
    """A step of either track; its name follows a plus."""

    title: ClassVar[str]
    """A short description for people."""
    Options: ClassVar[type[AnyOptions]] = AnyOptions
    terminal: ClassVar[bool] = False
    """Whether no step can follow this step."""
    gpu: ClassVar[bool] = False
    """Whether the step can use a GPU; if not, it runs on the CPU."""

    options: AnyOptions

    def __init__(self, **options: Any) -> None:
        self.options = self.Options(**options)


class Step(NamedStep):
    """A step of language models, made from its options. Importing its module must not import torch."""

    needs: ClassVar[tuple[Need, ...]] = ()

    @abstractmethod
    def apply(self, inputs: StepInputs, output: Path) -> StepOutcome:
        """Make the model folder ``output``, which appears only when complete. Import heavy packages here.

        Raises:
            PrunerError: if the model cannot be made. Then no model is written.
        """

    @abstractmethod
    def describe(self, taken: StepRecord) -> str:
        """The step's result, as one line for people."""


def step_class(implementation: str) -> type[Step]:
    """The class of ``module:Class``, as the registry names it."""
    found: type[Step] = registered(implementation)
    return found

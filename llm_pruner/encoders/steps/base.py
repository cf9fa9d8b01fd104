"""Base of the steps of classifiers: a step makes one row from another finished row, seed by seed."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from llm_pruner.encoders.options import TaskOptions
from llm_pruner.steps.base import NamedStep
from llm_pruner.system.registry import registered
from llm_pruner.system.runtime import ON_CPU, Runtime

Section = Literal["quantization", "qat"]


@dataclass(frozen=True)
class ClassifierInputs:
    """Inputs of a step."""

    parent: Path
    """Model folder of the classifier that the step starts from."""
    teacher: Path | None
    """Model folder of the teacher, for a step that ``trains``."""
    task: TaskOptions | None
    """Task to train on, for a step that ``trains``."""
    name: str
    """Name of the new row."""
    seed: int
    """Seed of the training."""
    runtime: Runtime = ON_CPU


class ClassifierStep(NamedStep):
    """Step of classifiers, constructed from its options. Importing its module must not import torch."""

    sections: ClassVar[tuple[Section, ...]] = ()
    """Sections of ``encoders`` with options shared by all rows of this step; together they form its ``Options``."""
    trains: ClassVar[bool] = False
    """Whether the step trains by distillation from the teacher, and records a training curve."""

    @abstractmethod
    def apply(self, inputs: ClassifierInputs, output: Path) -> None:
        """Write ``output/model`` and ``output/record.json``. Import heavy modules here.

        Raises:
            PrunerError: if the classifier cannot be made.
        """


def classifier_step(implementation: str) -> type[ClassifierStep]:
    """Import the class named ``module:Class`` in the registry."""
    found: type[ClassifierStep] = registered(implementation)
    return found

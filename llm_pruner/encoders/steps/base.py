"""What a step of a classifier is: it makes a finished row of another, seed by seed."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from llm_pruner.encoders.options import TaskOptions
from llm_pruner.steps.base import NamedStep
from llm_pruner.system.registry import registered

Section = Literal["quantization", "qat"]


@dataclass(frozen=True)
class ClassifierInputs:
    """What a step is applied to, and what else it may read."""

    parent: Path
    """Folder of the classifier it starts from."""
    teacher: Path | None
    """Folder of the teacher, and the ``task``, for a step that ``trains``."""
    task: TaskOptions | None
    name: str
    """Of the row that is made."""
    seed: int
    device: str = "cpu"
    progress: bool = False


class ClassifierStep(NamedStep):
    """A step, made from its options. Importing its module must not import torch."""

    sections: ClassVar[tuple[Section, ...]] = ()
    """Sections of ``encoders`` whose values all rows with this step share; together they are its ``Options``."""
    trains: ClassVar[bool] = False
    """Whether it follows the teacher on the task's examples, and leaves a curve to draw."""

    @abstractmethod
    def apply(self, inputs: ClassifierInputs, output: Path) -> None:
        """Make ``output/model`` and ``output/record.json``; import what is heavy here.

        Raises:
            PrunerError: if they cannot be made.
        """


def classifier_step(implementation: str) -> type[ClassifierStep]:
    """The class of ``module:Class``, as the registry names it."""
    found: type[ClassifierStep] = registered(implementation)
    return found

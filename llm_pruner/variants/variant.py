"""A variant: one pruned model to make, with all options resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from llm_pruner.repairs.choice import NONE
from llm_pruner.system.errors import ConfigError, nearest

if TYPE_CHECKING:
    from llm_pruner.methods.base import Method

DENSE = "Dense"
"""Name of the base model among the variants."""


@dataclass(frozen=True)
class ScoreSpec:
    """A request for scores of the base model's groups or layers. All variants planned from the scores share it."""

    name: str
    """Name of the scores file, also in figures: the method and the options that differ from their defaults."""
    implementation: str
    mechanism: str
    """``width`` or ``depth``, or the mechanism of the variants whose allocation uses the scores."""
    options: dict[str, Any]
    """Options of the method."""
    calibrated: bool
    """Whether the method looks at calibration samples."""
    job: str
    """Dotted module with the function ``score`` that makes the scores."""
    scored_options: dict[str, Any] = field(default_factory=dict)
    """Options of the mechanism that change the scores, such as ``drop``."""


@dataclass(frozen=True)
class StepSpec:
    """A request for a step, such as healing, on a finished model."""

    name: str
    """Name of the step, as behind the plus of ``GQA_2000+lora``."""
    implementation: str
    """``module:Class`` of the step."""
    options: dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """A method, a mechanism, an amount and options, in plain values that JSON can hold."""

    name: str
    method: str
    implementation: str
    """``module:Class`` of the method."""
    mechanism: str
    structure: str
    """``dense``, ``width``, ``depth``, ``slice``, ``unstructured``, or a pattern ``N:M``."""
    amount: float
    """A ratio, or a number of layers for depth."""
    score: ScoreSpec | None
    """Scores for the plan. None for sparse and slicing methods, which decide layer by layer while they prune."""
    calibrated: bool
    """Whether the method looks at calibration samples."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the mechanism, such as ``uniform``."""
    method_options: dict[str, Any] = field(default_factory=dict)
    """Options of the method, such as ``samples``."""
    importance: ScoreSpec | None = None
    """Scores of layers that limit each layer's loss."""
    parent: str | None = DENSE
    """Variant that this variant is made from; None for Dense."""
    step: StepSpec | None = None
    """Last step, applied to the parent; None if the base model is pruned."""

    @property
    def root(self) -> str:
        """Name of the pruned variant before all steps; the variant's own name if it has no steps."""
        return self.name.partition("+")[0]

    @property
    def scores(self) -> tuple[ScoreSpec, ...]:
        """All scores that the variant is planned from."""
        return tuple(score for score in (self.score, self.importance) if score)

    @property
    def repaired(self) -> bool:
        """Whether a repair changes the kept weights."""
        return self.options.get("repair", NONE) != NONE

    @property
    def samples_wanted(self) -> bool:
        """Whether pruning itself looks at calibration samples, besides any scores before it."""
        return self.repaired or (self.calibrated and not self.score)

    def build_method(self) -> Method:
        return build_method(self.implementation, self.method_options)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Variant:
        parts = {"score": ScoreSpec, "importance": ScoreSpec, "step": StepSpec}
        return cls(**{**value, **{key: part(**value[key]) for key, part in parts.items() if value[key]}})


def build_method(implementation: str, options: Mapping[str, Any]) -> Method:
    """Make a method from ``module:Class`` and its options."""
    return load_class(implementation)(**options)


def load_class(implementation: str) -> type[Method]:
    """The method class of ``module:Class``. A subclass of ``BasePruner`` is wrapped as a method.

    Raises:
        ConfigError: if there is no such module or class, or the class is neither.
    """
    from llm_pruner.methods.base import Method

    found = import_class(implementation)
    if issubclass(found, Method):
        return found
    # imported by name, so that jobs of other methods do not depend on the sources of pruners
    return import_module("llm_pruner.objects.pruners").pruner_method(implementation)


def is_class_name(text: str) -> bool:
    """Whether a text has the form ``module:Class``.

    >>> is_class_name("my_package.my_module:MyPruner"), is_class_name(".x:Y")
    (True, False)
    """
    module, _, name = text.partition(":")
    return name.isidentifier() and all(part.isidentifier() for part in module.split("."))


def import_class(implementation: str) -> type:
    """The class of ``module:Class``, of any kind.

    Raises:
        ConfigError: if there is no such module, or no such class in the module.
    """
    module, _, name = implementation.partition(":")
    if not is_class_name(implementation):
        raise ConfigError(["write the class as my_package.my_module:MyPruner"], implementation)
    try:
        found = import_module(module)
    except Exception as error:  # whatever a module of the user's raises
        told = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise ConfigError([f"'{module}' cannot be imported ({told})"], implementation) from error
    classes = [key for key, value in vars(found).items() if isinstance(value, type)]
    if name not in classes:
        raise ConfigError([f"'{module}' has no class '{name}'{nearest(name, classes)}"], implementation)
    return getattr(found, name)

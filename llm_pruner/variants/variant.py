"""A variant: one pruned model to be made, with everything resolved."""

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
"""The base model among the variants."""


@dataclass(frozen=True)
class ScoreSpec:
    """Scores of the base model: of its groups, or of its layers. Shared by all variants planned from them."""

    name: str
    """Of the file, and in figures: the method and the options that are not the default."""
    implementation: str
    mechanism: str
    """Whose scores they are: ``width`` or ``depth``, or that of the variants whose allocation goes by them."""
    options: dict[str, Any]
    """Of the method."""
    calibrated: bool
    """Whether the method looks at calibration samples."""
    job: str
    """Dotted module whose ``score`` makes them."""
    scored_options: dict[str, Any] = field(default_factory=dict)
    """Options of the mechanism that decide what is scored, such as ``drop``."""


@dataclass(frozen=True)
class StepSpec:
    """What is done to a finished model to make another of it, such as healing."""

    name: str
    """As written behind the plus of ``GQA_2000+lora``."""
    implementation: str
    """``module:Class`` of the step."""
    options: dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """A method, a mechanism, an amount and options; plain values, so that it travels as JSON."""

    name: str
    method: str
    implementation: str
    """``module:Class`` of the method."""
    mechanism: str
    structure: str
    """``dense``, ``width``, ``depth``, ``slice``, ``unstructured`` or ``N:M``."""
    amount: float
    """A ratio, or a number of layers for depth."""
    score: ScoreSpec | None
    """The scores it is planned from. None where nothing can be scored ahead: sparse and slicing methods decide layer by
    layer on the way through."""
    calibrated: bool
    """Whether the method looks at calibration samples."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the mechanism, such as ``uniform``."""
    method_options: dict[str, Any] = field(default_factory=dict)
    """Options of the method, such as ``samples``."""
    importance: ScoreSpec | None = None
    """Scores of layers that decide how much each may lose."""
    parent: str | None = DENSE
    """The variant it is made from; None for Dense."""
    step: StepSpec | None = None
    """What is done to the parent; None where the base model is pruned."""

    @property
    def root(self) -> str:
        """The pruned variant that all its steps began with; itself if there are none."""
        return self.name.partition("+")[0]

    @property
    def scores(self) -> tuple[ScoreSpec, ...]:
        """Everything it is planned from."""
        return tuple(score for score in (self.score, self.importance) if score)

    @property
    def repaired(self) -> bool:
        """Whether the weights that stay are set anew."""
        return self.options.get("repair", NONE) != NONE

    @property
    def samples_wanted(self) -> bool:
        """Whether pruning itself, and not only the scores before it, looks at calibration samples."""
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
    """The class of ``module:Class``: a method, or a ``BasePruner`` of someone's own, which is made one.

    Raises:
        ConfigError: if there is no such module or class, or it is neither.
    """
    from llm_pruner.methods.base import Method

    found = import_class(implementation)
    if issubclass(found, Method):
        return found
    # by name, so that jobs of other methods do not depend on its sources
    return import_module("llm_pruner.objects.pruners").pruner_method(implementation)


def import_class(implementation: str) -> type:
    """The class of ``module:Class``, whatever it is.

    Raises:
        ConfigError: if there is no such module, or no such class in it.
    """
    module, _, name = implementation.partition(":")
    if not (module and name):
        raise ConfigError(["not of the form my_package.my_module:MyPruner"], implementation)
    try:
        found = import_module(module)
    except ImportError as error:
        raise ConfigError([f"'{module}' cannot be imported ({error})"], implementation) from error
    classes = [key for key, value in vars(found).items() if isinstance(value, type)]
    if name not in classes:
        raise ConfigError([f"'{module}' has no class '{name}'{nearest(name, classes)}"], implementation)
    return getattr(found, name)

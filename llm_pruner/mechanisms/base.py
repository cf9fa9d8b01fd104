"""What a mechanism is: the one object that everything outside asks about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import ValidationInfo, field_validator

from llm_pruner.system.choice import Choices
from llm_pruner.system.errors import ConfigError
from llm_pruner.system.options import Options

if TYPE_CHECKING:
    from llm_pruner.mechanisms.records import ScoresFile
    from llm_pruner.methods.base import Method
    from llm_pruner.models.architecture import Architecture
    from llm_pruner.planning.allocations.base import Ranking
    from llm_pruner.variants.variant import Variant

STEPS_OF_RATIO = 10_000
"""Ratios stand in names as hundredths of a percent."""
RATIO = r"\d{4}"
"""How a ratio stands in a name."""


class MechanismOptions(Options):
    """Options of every method that prunes by the mechanism."""

    mechanism: ClassVar[str]
    """The mechanism's name."""
    scored: ClassVar[set[str]] = set()
    """Those of the options that decide what is scored, and not only what is made of the scores."""
    chosen: ClassVar[dict[str, Choices]] = {}
    """Options that choose an entry of a registry, and which."""

    @field_validator("*", mode="before")
    @classmethod
    def _is_choice(cls, value: Any, info: ValidationInfo) -> Any:
        choices = cls.chosen.get(info.field_name or "")
        return choices.read(value, cls.mechanism) if choices else value

    @classmethod
    def understands(cls, key: str, value: Any, structure: str) -> bool:
        """Whether an option that all variants of a method share has a meaning for those of this structure."""
        if key in cls.chosen:
            return cls.chosen[key].may_choose(value, cls.mechanism)
        return key in cls.model_fields

    @classmethod
    def elsewhere(cls, key: str) -> str | None:
        """Where an option that is unknown here is written instead; None if nowhere."""
        places = (choices.option_of(key, cls.mechanism) for choices in cls.chosen.values())
        return next((place for place in places if place), None)

    def problems_with(self, method: type[Method], structure: str) -> list[str]:
        """What a method cannot do of these options.

        Args:
            structure: the mechanism's name, or the form that its amount takes: ``unstructured`` or ``N:M``.
        """
        return []

    @property
    def ranking(self) -> Ranking | None:
        """The layer scores that the options ask for; None if they ask for none."""
        return None


class Amount(NamedTuple):
    """What a name says about how much goes."""

    structure: str
    """The mechanism's name, or the form that its amount takes: ``unstructured`` or ``N:M``."""
    amount: float
    """A ratio, or a number of layers."""
    of: str | None = None
    """What it counts, where the way it is written says so and not the option ``of``."""


class Mechanism(ABC):
    """One way to make a model smaller. Importing its module imports no torch."""

    name: ClassVar[str]
    """As methods, records and the configuration call it."""
    suffix: ClassVar[str]
    """Pattern of what a variant's name ends with: ``2000`` of ``GQA_2000``."""
    reserved: ClassVar[tuple[str, ...]] = ()
    """Words of the suffix, which can be no label of a variant."""
    examples: ClassVar[tuple[str, ...]]
    """What may follow a method's name: ``_2000``."""
    asks: ClassVar[Literal["nothing", "ratio", "number"]] = "ratio"
    """What an amount is."""
    structures: ClassVar[tuple[str, ...]]
    """What ``--structure`` calls it, for people."""
    masks: ClassVar[bool] = False
    """Zeroes weights, which a step after it must keep, and leaves every shape."""
    ranks_layers: ClassVar[bool] = False
    """Its scores are one number a layer."""
    thins_layers: ClassVar[bool] = False
    """Every layer may lose another share."""
    score_with: ClassVar[str | None] = None
    """Dotted module whose ``score`` makes the scores; None where all is decided on the way through the model."""
    measure_with: ClassVar[str | None] = None
    """Dotted module whose ``score`` measures the layers, where an allocation asks for it."""
    Scores: ClassVar[type[ScoresFile] | None] = None
    """The file that scoring, or measuring, makes; None where there is neither."""
    prune_with: ClassVar[str]
    """Dotted module whose ``prune`` makes the model of a ``Job``."""
    Options: ClassVar[type[MechanismOptions]] = MechanismOptions

    @abstractmethod
    def unit(self, options: Mapping[str, Any]) -> str | None:
        """What an amount is a share or a number of, ``parameters`` for one; None where nothing goes."""

    def describe(self, amount: float, unit: str) -> str:
        """An amount for people."""
        return f"{100 * amount:.2f} %"

    def read(self, suffix: str) -> Amount:
        """The amount that the end of a name stands for.

        Args:
            suffix: matches the pattern ``suffix``.

        Raises:
            ConfigError: if it takes nothing, or makes no sense.
        """
        return Amount(self.name, read_ratio(suffix))

    def owns(self, structure: str) -> bool:
        """Whether ``--structure`` means this mechanism."""
        return structure == self.name

    def write(self, structure: str, amount: float | None) -> str:
        """The end of a variant's name, such as ``_2000``; ``read`` is the way back.

        Args:
            structure: one that it owns.
            amount: None where the structure says it.

        Raises:
            ConfigError: if the amount is missing, impossible or finer than names can say.
        """
        return f"_{write_ratio(amount)}"

    def check(self, variant: Variant, architecture: Architecture, tokens: int | None = None) -> None:  # noqa: B027
        """Raise PlanError if a model of this shape cannot give what the variant takes, as far as is known unscored.

        Args:
            tokens: calibration tokens there will be, where that is known.
        """

    def varies(self, options: Mapping[str, Any]) -> bool:
        """Whether these options let layers lose different shares."""
        return False

    def modules(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Dotted modules that a pruning job with these options runs, besides the mechanism's own."""
        chosen = (choices.module(options[key]) for key, choices in self.Options.chosen.items())
        return (self.prune_with, *chosen)


def read_ratio(digits: str) -> float:
    """The ratio that four digits of a name stand for.

    >>> read_ratio("2000")
    0.2

    Raises:
        ConfigError: for zero.
    """
    if int(digits) == 0:
        raise ConfigError(["removes nothing; that is Dense"])
    return int(digits) / STEPS_OF_RATIO


def write_ratio(ratio: float | None) -> str:
    """A ratio as it stands in names: hundredths of a percent, four digits.

    >>> write_ratio(0.2)
    '2000'

    Raises:
        ConfigError: for a ratio that is missing, not between 0 and 1, or finer.
    """
    if ratio is None:
        raise ConfigError(["needed, such as 0.5"])
    steps = round(ratio * STEPS_OF_RATIO)
    if not 0 < ratio < 1:
        raise ConfigError([f"{ratio} is not between 0 and 1"])
    if abs(ratio * STEPS_OF_RATIO - steps) > 1e-6:
        below = int(ratio * STEPS_OF_RATIO)
        near = [f"{step / STEPS_OF_RATIO:g}" for step in (below, below + 1) if 0 < step < STEPS_OF_RATIO]
        raise ConfigError([f"{ratio} is finer than hundredths of a percent; write {' or '.join(near)}"])
    return f"{steps:04d}"

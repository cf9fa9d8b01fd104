"""Interface of mechanisms: one object with everything that other packages need to know about a mechanism."""

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
"""Names write ratios in hundredths of a percent."""
_DIGITS = 6
RATIO = r"\d{4}"
"""Pattern of a ratio in a name."""


class MechanismOptions(Options):
    """Options of a mechanism, for every method that uses it."""

    mechanism: ClassVar[str]
    """The mechanism's name."""
    scored: ClassVar[set[str]] = set()
    """Names of the options that affect scores, and not only the model made from them."""
    chosen: ClassVar[dict[str, Choices]] = {}
    """Registries by the name of the option that chooses an entry."""

    @field_validator("*", mode="before")
    @classmethod
    def _is_choice(cls, value: Any, info: ValidationInfo) -> Any:
        choices = cls.chosen.get(info.field_name or "")
        return choices.read(value, cls.mechanism) if choices else value

    @classmethod
    def understands(cls, key: str, value: Any, structure: str) -> bool:
        """Whether an option shared by all variants of a method has a meaning for variants of this structure."""
        if key in cls.chosen:
            return cls.chosen[key].may_choose(value, cls.mechanism)
        return key in cls.model_fields

    @classmethod
    def elsewhere(cls, key: str) -> str | None:
        """The place for an option that is unknown here, for an error message; None if there is none."""
        places = (choices.option_of(key, cls.mechanism) for choices in cls.chosen.values())
        return next((place for place in places if place), None)

    def problems_with(self, method: type[Method], structure: str) -> list[str]:
        """Reasons why a method cannot be used with these options; empty if it can.

        Args:
            method: class of the method.
            structure: the mechanism's name, ``unstructured`` or ``N:M``.
        """
        return []

    @property
    def ranking(self) -> Ranking | None:
        """The layer scores that the options need; None if they need none."""
        return None


class Amount(NamedTuple):
    """The amount to remove, as the end of a variant's name gives it."""

    structure: str
    """The mechanism's name, ``unstructured`` or ``N:M``."""
    amount: float
    """A ratio, or a number of layers."""
    of: str | None = None
    """Value of the option ``of``, if the name determines it."""


class Mechanism(ABC):
    """One way to make a model smaller. Importing its module must not import torch."""

    name: ClassVar[str]
    """Name in methods, records and the configuration."""
    suffix: ClassVar[str]
    """Pattern of the end of a variant's name, such as ``2000`` in ``GQA_2000``."""
    reserved: ClassVar[tuple[str, ...]] = ()
    """Words of the suffix, which no label of a variant may use."""
    examples: ClassVar[tuple[str, ...]]
    """Examples of the text after a method's name, such as ``_2000``."""
    asks: ClassVar[Literal["nothing", "ratio", "number"]] = "ratio"
    """Kind of an amount."""
    structures: ClassVar[tuple[str, ...]]
    """Values of ``--structure`` for this mechanism, for people."""
    masks: ClassVar[bool] = False
    """Whether the mechanism zeroes weights and leaves every shape. Later steps must keep the zeros."""
    ranks_layers: ClassVar[bool] = False
    """Whether scores are one number for each layer."""
    thins_layers: ClassVar[bool] = False
    """Whether layers can lose different shares."""
    score_with: ClassVar[str | None] = None
    """Dotted module of the function ``score``, which scores units; None if the pruning job decides alone."""
    measure_with: ClassVar[str | None] = None
    """Dotted module of the function ``score``, which measures layers for an allocation."""
    Scores: ClassVar[type[ScoresFile] | None] = None
    """File of the scores or measures; None if there are none."""
    prune_with: ClassVar[str]
    """Dotted module of the function ``prune``, which makes the model of a ``Job``."""
    Options: ClassVar[type[MechanismOptions]] = MechanismOptions

    @abstractmethod
    def unit(self, options: Mapping[str, Any]) -> str | None:
        """Unit that an amount counts or is a share of, such as ``parameters``; None if nothing is removed."""

    def describe(self, amount: float, unit: str) -> str:
        """The amount as text for people."""
        return f"{100 * amount:.2f} %"

    def read(self, suffix: str) -> Amount:
        """Read the amount from the end of a name.

        Args:
            suffix: text that matches the pattern ``suffix``.

        Raises:
            ConfigError: if the amount is zero or impossible.
        """
        return Amount(self.name, read_ratio(suffix))

    def owns(self, structure: str) -> bool:
        """Whether a value of ``--structure`` means this mechanism."""
        return structure == self.name

    def write(self, structure: str, amount: float | None) -> str:
        """Write the end of a variant's name, such as ``_2000``; the inverse of ``read``.

        Args:
            structure: a structure of this mechanism.
            amount: the amount; None if the structure determines it.

        Raises:
            ConfigError: if the amount is missing, impossible or too fine for a name.
        """
        return f"_{write_ratio(amount)}"

    def check(self, variant: Variant, architecture: Architecture, tokens: int | None = None) -> None:  # noqa: B027
        """Raise PlanError if a model of this shape cannot lose the variant's amount. Runs before scores exist.

        Args:
            variant: variant to make.
            architecture: shape of the base model.
            tokens: number of calibration tokens; None if unknown.
        """

    def varies(self, options: Mapping[str, Any]) -> bool:
        """Whether layers lose different shares with these options."""
        return False

    def modules(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Dotted modules that a pruning job with these options runs, besides the mechanism's own module."""
        chosen = (choices.module(options[key]) for key, choices in self.Options.chosen.items())
        return (self.prune_with, *chosen)


def read_number(digits: str) -> int:
    """The number of layers or of weights that digits of a name stand for.

    Raises:
        ConfigError: for more digits than any model has layers or inputs.
    """
    if len(digits) > _DIGITS:
        raise ConfigError([f"a number of {len(digits):,} digits; write at most {_DIGITS}"])
    return int(digits)


def read_ratio(digits: str) -> float:
    """Read a ratio from four digits of a name.

    >>> read_ratio("2000")
    0.2

    Raises:
        ConfigError: for zero.
    """
    if int(digits) == 0:
        raise ConfigError(["removes nothing; write Dense instead"])
    return int(digits) / STEPS_OF_RATIO


def write_ratio(ratio: float | None) -> str:
    """Write a ratio as four digits of a name, in hundredths of a percent.

    >>> write_ratio(0.2)
    '2000'

    Raises:
        ConfigError: for a ratio that is missing, not between 0 and 1, or finer than a hundredth of a percent.
    """
    if ratio is None:
        raise ConfigError(["a ratio is needed, such as 0.5"])
    if not 0 < ratio < 1:
        raise ConfigError([f"{ratio} is not between 0 and 1"])
    steps = round(ratio * STEPS_OF_RATIO)
    if abs(ratio * STEPS_OF_RATIO - steps) > 1e-6:
        below = int(ratio * STEPS_OF_RATIO)
        near = [f"{step / STEPS_OF_RATIO:g}" for step in (below, below + 1) if 0 < step < STEPS_OF_RATIO]
        raise ConfigError([f"{ratio} is finer than hundredths of a percent; write {' or '.join(near)}"])
    return f"{steps:04d}"

"""A variant: one pruned model to be made, with everything resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_pruner.methods.base import Method


@dataclass(frozen=True)
class Variant:
    """A method, a mechanism, an amount and options; plain values, so that it travels as JSON."""

    name: str
    method: str
    implementation: str
    """``module:Class`` of the method."""
    family: str
    structure: str
    """``dense``, ``width``, ``depth``, ``unstructured`` or ``N:M``."""
    amount: float
    """A ratio, or a number of layers for depth."""
    score: str | None
    """Name of the scores it is planned from, shared by all variants of the method with the same method options.
    None where nothing can be scored ahead: sparse methods decide layer by layer on the way through."""
    calibrated: bool
    """Whether the method looks at calibration samples."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the family, such as ``uniform``."""
    method_options: dict[str, Any] = field(default_factory=dict)
    """Options of the method, such as ``samples``."""

    @property
    def asked(self) -> dict[str, Any] | None:
        """The amount, and what it is a share or a number of."""
        of = {"width": "parameters", "sparse": "weights", "depth": "layers"}.get(self.family)
        return {"amount": self.amount, "of": of} if of else None

    def build_method(self) -> Method:
        return build_method(self.implementation, self.method_options)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def build_method(implementation: str, options: Mapping[str, Any]) -> Method:
    """Make a method from ``module:Class`` and its options."""
    return load_class(implementation)(**options)


def load_class(implementation: str) -> type[Method]:
    module, _, name = implementation.partition(":")
    return getattr(import_module(module), name)

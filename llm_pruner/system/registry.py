"""Entries of registries, written as ``module:Class`` and imported on use."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def module_of(implementation: str) -> str:
    """The dotted module of ``module:Class``.

    >>> module_of("llm_pruner.steps.nf4:Nf4")
    'llm_pruner.steps.nf4'
    """
    return implementation.partition(":")[0]


def registered(implementation: str) -> Any:
    """The class of ``module:Class`` in a registry of this package. Classes that users write are checked elsewhere."""
    return getattr(import_module(module_of(implementation)), implementation.partition(":")[2])

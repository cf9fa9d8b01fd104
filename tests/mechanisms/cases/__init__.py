"""What each mechanism brings to the contract: a file for each, found by the mechanism's name.

A file holds ``Cases``: amounts to prune by, the dense model with what went taken out of it by other means, and the size
that must come out.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from llm_pruner.mechanisms import MECHANISMS
from tests.mechanisms.cases.base import Case, MechanismCases

__all__ = ["CASES_OF", "Case", "MechanismCases"]


def _find(mechanism: str) -> MechanismCases | None:
    module = f"{__name__}.{mechanism}"
    if find_spec(module) is None:
        return None
    cases: MechanismCases = import_module(module).Cases()
    return cases


CASES_OF = {name: cases for name in MECHANISMS if (cases := _find(name))}
"""The cases of every mechanism that has a file here."""

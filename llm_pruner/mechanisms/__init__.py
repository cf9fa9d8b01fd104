"""Registry of mechanisms, the ways to make a model smaller. A method lists the mechanisms that can use it.

========  ===================================================================
dense     nothing is removed
width     whole key-value groups with their query heads, and MLP channels
depth     whole layers
sparse    single weights, unstructured or N of every M
slice     dimensions of the residual stream
========  ===================================================================

A new mechanism is a folder in this package and a line below. The folder holds the object (``__init__.py``), its options
(``options.py``) and a file for each kind of job: ``score.py`` for scores that do not depend on the amount, and
``prune.py``. An edit of one job's file does not rerun the other job.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from llm_pruner.mechanisms.base import Mechanism
from llm_pruner.system.registry import module_of, registered

MECHANISMS: dict[str, str] = {
    "dense": "llm_pruner.mechanisms.dense:Dense",
    "width": "llm_pruner.mechanisms.width:Width",
    "depth": "llm_pruner.mechanisms.depth:Depth",
    "sparse": "llm_pruner.mechanisms.sparse:Sparse",
    "slice": "llm_pruner.mechanisms.slice:Slice",
}
"""``module:Class`` by name; a module is imported on first use. Names of variants are matched in this order."""


@cache
def get_mechanism(name: str) -> Mechanism:
    """The mechanism with this name, which must be in ``MECHANISMS``."""
    mechanism: Mechanism = registered(MECHANISMS[name])()
    return mechanism


def all_mechanisms() -> list[Mechanism]:
    """Every mechanism, in the order of ``MECHANISMS``."""
    return [get_mechanism(name) for name in MECHANISMS]


def job_modules(name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Dotted modules that a pruning job of this mechanism runs, for the job's digest."""
    return *get_mechanism(name).modules(options), module_of(MECHANISMS[name])

"""The mechanisms, by name: what can go of a model, and how. Any method that names one drives it.

========  ===================================================================
dense     nothing goes
width     whole key-value groups with their query heads, and MLP channels
depth     whole layers
sparse    single weights, freely or N of every M
slice     dimensions of the residual stream
========  ===================================================================

Adding one is a folder here and a line below. A folder holds the object (``__init__.py``), its ``options.py``, and one
file a job: ``score.py``, where scores do not depend on the amount, and ``prune.py``. An edit of one job's file does
not rerun the other job.
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
"""``module:Class`` by name, imported when asked for; in the order in which names of variants are read."""


@cache
def get_mechanism(name: str) -> Mechanism:
    """The mechanism of a name in ``MECHANISMS``."""
    mechanism: Mechanism = registered(MECHANISMS[name])()
    return mechanism


def all_mechanisms() -> list[Mechanism]:
    """Every mechanism, in the order of ``MECHANISMS``."""
    return [get_mechanism(name) for name in MECHANISMS]


def job_modules(name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Modules that a pruning job of this mechanism runs, for its digest; those of scoring are the score's ``job``."""
    return *get_mechanism(name).modules(options), module_of(MECHANISMS[name])

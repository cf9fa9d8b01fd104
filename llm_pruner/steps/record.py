"""What ``pruning.json`` says of the steps a model went through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def steps_of(record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Every step in its order: ``name``, ``options``, what came of it, and ``run``.

    A record of before this list was kept has only the last.
    """
    if "steps" in record:
        steps: Sequence[Mapping[str, Any]] = record["steps"]
        return steps
    return [record["step"]] if record.get("step") else []

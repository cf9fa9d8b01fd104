"""Scores of a model's layers, as files: what all mechanisms share."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from pydantic import SerializeAsAny

from llm_pruner.mechanisms import MECHANISMS, get_mechanism
from llm_pruner.system.errors import DataError, listed
from llm_pruner.system.files import read_json
from llm_pruner.system.records import Part, Record, RunRecord


class LayerEntry(Part):
    """The scores of one layer."""

    index: int
    """Of the layer, from 0."""

    @abstractmethod
    def values(self) -> list[float]:
        """Every score of the layer."""

    @abstractmethod
    def series(self) -> dict[str, float]:
        """One number for each part of the layer that is scored, by what a legend calls it."""


class Evaluations(Part):
    """Layer evaluations, each of all samples."""

    run: float
    """That the scoring took."""
    naive: int
    """That it would take without sharing any between scores."""


class Scored(NamedTuple):
    """What scoring gives."""

    layers: tuple[LayerEntry, ...]
    """One entry a layer of the base, in order."""
    evaluations: Evaluations | None = None
    """What it took, where layers are scored as a whole."""


class MadeFrom(Part):
    """What scores were made from, so that the same are not made twice."""

    model: dict[str, tuple[int, int]]
    """Bytes and time of last change, in nanoseconds, of each checkpoint file."""
    tokens: str | None
    """Digest of the calibration tokens; null where none were looked at."""


class ScoresFile(Record):
    """Scores of the base model, which every variant of a method is planned from."""

    file: ClassVar[str] = "resources/scores/{score}.json"

    id: str
    """The method, and its options that are not the default."""
    method: str
    """That gave the scores."""
    mechanism: str
    """Whose units are scored."""
    options: dict[str, Any]
    """Of the method, and those of the mechanism that decide what is scored."""
    layers: tuple[SerializeAsAny[LayerEntry], ...]
    """One entry a layer of the base, in order."""
    layer_evaluations: Evaluations | None = None
    """What the scoring took, where layers are scored as a whole."""
    run: RunRecord
    """The job that scored."""
    made_from: MadeFrom | None = None
    """Of scores that a command made."""


def read_scores(path: str | os.PathLike[str]) -> ScoresFile:
    """Read a scores file of whatever mechanism.

    Raises:
        DataError: if it is missing or damaged, or holds no scores.
    """
    value = read_json(path)
    name = value.get("mechanism") if isinstance(value, Mapping) else None
    model = get_mechanism(name).Scores if name in MECHANISMS else None
    if model is None:
        known = ", ".join(name for name in MECHANISMS if get_mechanism(name).Scores)
        raise DataError(listed(str(path), [f"mechanism: must be one of {known}, not {name!r}"], "not a file of scores"))
    return model.of(value, path)

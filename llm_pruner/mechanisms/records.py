"""Files of scores: the parts that all mechanisms share."""

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
    """Index of the layer, from 0."""

    @abstractmethod
    def values(self) -> list[float]:
        """Every score of the layer."""

    @abstractmethod
    def series(self) -> dict[str, float]:
        """One number for each scored part of the layer, by the part's name in a legend."""


class Evaluations(Part):
    """Counts of layer evaluations, each of all samples."""

    run: float
    """Evaluations that the scoring took."""
    naive: int
    """Evaluations without sharing between scores."""


class Scored(NamedTuple):
    """Results of a scoring."""

    layers: tuple[LayerEntry, ...]
    """One entry for each layer of the base, in order."""
    evaluations: Evaluations | None = None
    """Layer evaluations, if whole layers or blocks are scored."""


class MadeFrom(Part):
    """Sources of scores, by which a later command recognises and reuses the scores."""

    model: dict[str, tuple[int, int]]
    """Size in bytes and time of last change, in nanoseconds, of each checkpoint file."""
    tokens: str | None
    """Digest of the calibration tokens; null if the scoring uses none."""


class ScoresFile(Record):
    """Scores of the base model, shared by all variants of a method."""

    file: ClassVar[str] = "resources/scores/{score}.json"

    id: str
    """Name of the method and its options with a value other than the default."""
    method: str
    """Method that gave the scores."""
    mechanism: str
    """Mechanism whose units are scored."""
    options: dict[str, Any]
    """Options of the method, and options of the mechanism that affect scores."""
    layers: tuple[SerializeAsAny[LayerEntry], ...]
    """One entry for each layer of the base, in order."""
    layer_evaluations: Evaluations | None = None
    """Layer evaluations of the scoring, if whole layers or blocks are scored."""
    run: RunRecord
    """The job that scored."""
    made_from: MadeFrom | None = None
    """Sources of the scores, if a command made them."""


def read_scores(path: str | os.PathLike[str]) -> ScoresFile:
    """Read a scores file of any mechanism.

    Raises:
        DataError: if the file is missing or damaged, or is not a file of scores.
    """
    value = read_json(path)
    name = value.get("mechanism") if isinstance(value, Mapping) else None
    model = get_mechanism(name).Scores if name in MECHANISMS else None
    if model is None:
        known = ", ".join(name for name in MECHANISMS if get_mechanism(name).Scores)
        raise DataError(listed(str(path), [f"mechanism: must be one of {known}, not {name!r}"], "not a file of scores"))
    return model.of(value, path)

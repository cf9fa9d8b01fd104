"""Files of scores: the parts that all mechanisms share."""

from __future__ import annotations

import json
import math
import os
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import SerializeAsAny

from llm_pruner.mechanisms import MECHANISMS, get_mechanism
from llm_pruner.system.errors import DataError, listed
from llm_pruner.system.files import read_json
from llm_pruner.system.records import WAY_OUT, Part, Record, RunRecord

if TYPE_CHECKING:
    from llm_pruner.models.architecture import Architecture, LayerShape
    from llm_pruner.variants.variant import ScoreSpec, Variant


class LayerEntry(Part):
    """The scores of one layer."""

    index: int
    """Index of the layer, from 0."""

    @abstractmethod
    def values(self) -> list[float]:
        """Every score of the layer."""

    def problems_with(self, shape: LayerShape) -> list[str]:
        """What does not fit a layer of this shape."""
        return []

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


def read_scores_of(score: ScoreSpec, architecture: Architecture, path: str | os.PathLike[str]) -> ScoresFile:
    """Read the scores that were asked for, of a model of this shape.

    Raises:
        DataError: if the file is missing or damaged, or holds other scores, or scores of a model of another shape.
            Names every problem.
    """
    held = read_scores(path)
    options = json.loads(json.dumps({**score.scored_options, **score.options}))
    asked = (
        ("id", held.id, score.name),
        ("mechanism", held.mechanism, score.mechanism),
        ("options", held.options, options),
    )
    problems = [f"{key}: {own!r}, but {wanted!r} is asked for" for key, own, wanted in asked if own != wanted]
    layers, count = held.layers, architecture.num_layers
    if [entry.index for entry in layers] != list(range(count)):
        numbers = ", ".join(str(entry.index) for entry in layers) or "none"
        problems.append(f"layers: numbers {numbers}, but {architecture.folder} has the layers 0 … {count - 1}")
    else:
        for entry, shape in zip(layers, architecture.layers, strict=True):
            problems += [f"layers[{entry.index}]: {problem}" for problem in entry.problems_with(shape)]
            if not all(map(math.isfinite, entry.values())):
                problems.append(f"layers[{entry.index}]: has scores that are not finite")
    if problems:
        way_out = f"not scores for {architecture.folder} by {score.name}; delete it and run again to make it anew"
        raise DataError(listed(str(path), problems, way_out))
    return held


def read_sources(
    variant: Variant, architecture: Architecture, scores: Path | None, importance: Path | None
) -> tuple[ScoresFile | None, ScoresFile | None]:
    """The scores that a variant is planned from, and those that limit each layer's loss; None for those not given.

    Raises:
        DataError: as ``read_scores_of``.
    """
    given = ((variant.score, scores), (variant.importance, importance))
    found, ranking = (read_scores_of(score, architecture, path) if score and path else None for score, path in given)
    return found, ranking


def read_scores(path: str | os.PathLike[str]) -> ScoresFile:
    """Read a scores file of any mechanism.

    Raises:
        DataError: if the file is missing or damaged, or is not a file of scores.
    """
    value = read_json(path)
    name = value.get("mechanism") if isinstance(value, Mapping) else None
    model = get_mechanism(name).Scores if isinstance(name, str) and name in MECHANISMS else None
    if model is None:
        known = ", ".join(name for name in MECHANISMS if get_mechanism(name).Scores)
        problem = f"mechanism: must be one of {known}, not {name!r}"
        raise DataError(listed(f"{path}: not a file of scores", [problem], WAY_OUT))
    return model.of(value, path)

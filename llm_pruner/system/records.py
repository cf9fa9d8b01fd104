"""Result files, typed: each is written whole, and read whole or answered with one error.

A record says what a JSON file of a run holds. What a file lacks or has too much, because another version wrote it or
somebody changed it, is never guessed: the error names every place, and that the file is to be made anew. A field with a
default is one that older files lack; it is written only where it says something else.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from llm_pruner.system.errors import DataError, listed, problems_of
from llm_pruner.system.files import read_json, write_json

T = TypeVar("T")


class Part(BaseModel):
    """Values that belong together within a record. The docstring below a field is its documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())

    def to_dict(self) -> dict[str, Any]:
        """The JSON of it, in the order of its fields."""
        return self.model_dump(mode="json", exclude_defaults=True)


class Record(Part):
    """What one result file holds."""

    file: ClassVar[str]
    """Where a run keeps it, such as ``baselines/{variant}/pruning.json``."""

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file.

        Raises:
            DataError: if it is missing, is not JSON, or holds anything but this record; every problem is named.
        """
        return cls.of(read_json(path), path)

    @classmethod
    def of(cls, value: Any, path: str | os.PathLike[str]) -> Self:
        """The record of what a file at ``path`` holds.

        Raises:
            DataError: if that is anything but this record; every problem is named.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            way_out = "damaged, or of another version: delete it and run again to make it anew"
            raise DataError(listed(str(path), problems_of(error, cls), way_out)) from None

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write JSON that appears under its name only once it is complete."""
        write_json(path, self.to_dict())


class Pair(Part, Generic[T]):
    """A quantity before and after."""

    before: T
    """Of the model it was made from."""
    after: T
    """Of the model that was made."""


class Machine(Part):
    """Where a job ran."""

    system: str
    """Name and version of the operating system."""
    processor: str
    """Such as ``x86_64``."""
    cores: int | None
    """Of the machine, whatever the job was given."""


class RunRecord(Part):
    """What a result rests on."""

    started: str
    """Date and time, ISO 8601, UTC."""
    seconds: float
    """Wall time of the job."""
    seed: int | None
    """Of what is random, if anything is."""
    device: str | None
    """``cpu`` or ``cuda:0``; null where the job asked for none."""
    machine: Machine
    """Where it ran."""
    options: dict[str, Any]
    """What the job was told."""
    versions: dict[str, str]
    """Of Python and the packages that influence results."""

"""Typed result files: each is written whole, and read whole or refused with one error.

A record class describes a JSON file of a run. If a file lacks a field or has an unknown field, because another version
wrote it or somebody changed it, nothing is guessed: the error names every place and advises to make the file anew. A
field with a default may be missing in older files; it is written only if its value differs from the default.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from llm_pruner.system.errors import DataError, listed, problems_of
from llm_pruner.system.files import read_json, write_json

T = TypeVar("T")

WAY_OUT = "damaged, or of another version: delete it and run again to make it anew"
"""What to do about a file of a run that does not hold what it should."""


class Part(BaseModel):
    """A group of values within a record. The docstring below a field is its documentation."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False
    )

    @field_validator("*")
    @classmethod
    def _fits_a_table(cls, value: Any) -> Any:
        if isinstance(value, int) and abs(value) >= 2**63:
            raise ValueError("must be below 2⁶³")
        return value

    def to_dict(self) -> dict[str, Any]:
        """The part as JSON values, in the order of its fields."""
        return self.model_dump(mode="json", exclude_defaults=True)


class Record(Part):
    """The contents of one result file."""

    file: ClassVar[str]
    """Path of the file within a run, such as ``baselines/{variant}/pruning.json``."""

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file.

        Raises:
            DataError: if the file is missing, is not JSON, or does not hold this record. Names every problem.
        """
        return cls.of(read_json(path), path)

    @classmethod
    def of(cls, value: Any, path: str | os.PathLike[str]) -> Self:
        """The record with the contents ``value`` of a file at ``path``.

        Raises:
            DataError: if ``value`` is not this record. Names every problem.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise DataError(listed(str(path), problems_of(error, cls, value), WAY_OUT)) from None

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the record as JSON. The file appears under its name only once it is complete."""
        write_json(path, self.to_dict())


class Pair(Part, Generic[T]):
    """A quantity before and after."""

    before: T
    """Value of the parent, the model before."""
    after: T
    """Value of the model after."""


class Machine(Part):
    """The machine of a job."""

    system: str
    """Name and version of the operating system."""
    processor: str
    """Kind of processor, such as ``x86_64``."""
    cores: int | None
    """Cores of the machine; the job may have had fewer."""


class RunRecord(Part):
    """The provenance of a result."""

    started: str
    """Date and time of the start, ISO 8601, UTC."""
    seconds: float
    """Wall time of the job."""
    seed: int | None
    """Seed of random choices; null if nothing is random."""
    device: str | None
    """Device such as ``cpu`` or ``cuda:0``; null if the job uses none."""
    machine: Machine
    """The machine of the job."""
    options: dict[str, Any]
    """Options of the job."""
    versions: dict[str, str]
    """Versions of Python and of the packages that influence results."""

"""The base of all options that users set: in the configuration, for a method, a mechanism or a step."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from llm_pruner.system.errors import shown

MANY = 10_000_000
"""More than any sensible number of things that a job makes, reads or repeats."""
ENTRIES = 100
"""Largest length of a list whose entries each cost jobs."""
_LARGEST = 1e12
_LONGEST_TEXT = 4096  # as long as a path can be

Count = Annotated[int, Gt(0), Le(MANY)]
"""A number of things, at least one."""
Natural = Annotated[int, Ge(0), Le(MANY)]
"""A number of things, or none."""
Seed = Annotated[int, Ge(0), Lt(2**32)]
"""A seed that every library takes."""


class Options(BaseModel):
    """Immutable options that refuse unknown keys. The docstring below a field is its documentation and its help.

    No number is infinite or above 10¹² in size, no text longer than 4,096 characters, and ``true`` is no number.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = _kinds_of(cls, info)
        if kinds.isdisjoint((Any, bool)) and any(isinstance(each, bool) for each in _scalars(value)):
            allowed = next((words for kind, words in _WORDS.items() if kind in kinds), "something else")
            raise ValueError(f"Input should be {allowed}, not {shown(value)}")
        if kinds == {bool} and not isinstance(value, bool):
            raise ValueError(f"Input should be true or false, not {shown(value)}")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _within_reason(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = _kinds_of(cls, info)
        for each in () if Any in kinds else _scalars(value):
            if isinstance(each, int | float) and abs(each) > _LARGEST:
                raise ValueError(f"Input should be at most {_LARGEST:,.0f} in size, not {shown(value)}")
            if isinstance(each, str) and len(each) > _LONGEST_TEXT:
                raise ValueError(f"Input should be at most {_LONGEST_TEXT:,} characters long, not {len(each):,}")
        return value


_WORDS = {float: "a number", int: "a whole number", str: "text"}


def _kinds_of(model: type[BaseModel], info: ValidationInfo) -> frozenset[Any]:
    annotation: Any = model.model_fields[info.field_name or ""].annotation
    return _kinds(annotation)


@cache
def _kinds(annotation: Hashable) -> frozenset[Any]:
    """The types that an annotation is made of. Values of nested options count as any, as they check themselves."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return frozenset(map(type, get_args(annotation)))
    if inner := get_args(annotation):
        return frozenset().union(*map(_kinds, inner))
    nested = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return frozenset([Any if nested or annotation is Any else annotation])


def _scalars(value: Any) -> Iterator[Any]:
    """The value itself, or what its lists and mappings hold; not what options hold, nor what lies deeper than those."""
    yield from _flat(value, 3)


def _flat(value: Any, depth: int) -> Iterator[Any]:
    if isinstance(value, Mapping | list | tuple):
        parts = [*value, *value.values()] if isinstance(value, Mapping) else value
        for part in parts if depth else ():
            yield from _flat(part, depth - 1)
    else:
        yield value


def different(values: Iterable[Any] | None, why: str) -> None:
    """Raise ValueError if a list names something twice.

    Args:
        why: what is wrong with that.
    """
    seen = list(values or ())
    if twice := sorted({value for value in seen if seen.count(value) > 1}):
        raise ValueError(f"{', '.join(map(str, twice))} is listed twice; {why}")

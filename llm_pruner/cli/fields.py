"""Command-line options made from the fields of pydantic models: name, type, bounds, default and help."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

import annotated_types
import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from llm_pruner.variants.grammar import checked


@dataclass(frozen=True)
class Fields:
    """Marks a parameter whose model the command line fills: ``Annotated[Model, Fields(("window",))]``.

    Attributes:
        names: fields of the model that become options; the other fields keep their defaults.
        panel: the help's panel for these options.
        help: texts that replace the fields' descriptions.
    """

    names: tuple[str, ...]
    panel: str | None = None
    help: dict[str, str] = field(default_factory=dict)


def with_fields(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each field that a ``Fields`` parameter names, and pass it the filled model.

    Raises:
        ConfigError: when called, if the model refuses the values.
    """
    signature = inspect.signature(command, eval_str=True)
    models: dict[str, tuple[type[BaseModel], Fields]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if marked := _marked(parameter.annotation):
            models[parameter.name] = marked
            parameters += [_option(*marked, name) for name in marked[1].names]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(command)
    def filled(**given: Any) -> None:
        for name, (model, fields) in models.items():
            values = {key: given.pop(key) for key in fields.names}
            given[name] = checked(model, values, "command line")
        command(**given)

    filled.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    filled.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return filled


def _marked(annotation: Any) -> tuple[type[BaseModel], Fields] | None:
    if get_origin(annotation) is not Annotated:
        return None
    model, *marks = get_args(annotation)
    return next(((model, mark) for mark in marks if isinstance(mark, Fields)), None)


def _option(model: type[BaseModel], fields: Fields, name: str) -> inspect.Parameter:
    described = model.model_fields[name]
    text = fields.help.get(name) or (described.description or "").replace("``", "").replace("\n", " ")
    kind, bounds = _plain(described)
    option = typer.Option(help=text, rich_help_panel=fields.panel, min=bounds.get("min"), max=bounds.get("max"))
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=described.default, annotation=Annotated[kind, option]
    )


def _plain(described: FieldInfo) -> tuple[Any, dict[str, int]]:
    """A field's type without bounds, and the bounds of a whole number as typer takes them."""
    kind: Any = described.annotation
    marks = list(described.metadata)
    optional = NoneType in get_args(kind)
    if optional:
        [kind] = [other for other in get_args(kind) if other is not NoneType]
    if get_origin(kind) is Annotated:
        kind, *further = get_args(kind)
        marks += further
    bounds: dict[str, int] = {}
    for mark in marks if kind is int else ():
        if isinstance(mark, annotated_types.Ge):
            bounds["min"] = mark.ge  # type: ignore[assignment]
        elif isinstance(mark, annotated_types.Gt):
            bounds["min"] = mark.gt + 1  # type: ignore[assignment, operator]
        elif isinstance(mark, annotated_types.Le):
            bounds["max"] = mark.le  # type: ignore[assignment]
    return (kind | None if optional else kind), bounds

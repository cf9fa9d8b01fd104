"""An allocation as configurations write it: ``inverse``, or ``{inverse: {alpha: 2}}``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from llm_pruner.planning.allocations.base import Allocation
from llm_pruner.system.errors import explain, nearest
from llm_pruner.system.registry import module_of, registered

Choice = str | dict[str, dict[str, Any]]
UNIFORM = "uniform"


def registry() -> dict[str, str]:
    """``module:Class`` by name."""
    # by name, so that a job depends on the sources of the allocation that it runs and of no other
    registered: dict[str, str] = import_module("llm_pruner.planning.allocations").ALLOCATIONS
    return registered


def allocation_class(name: str) -> type[Allocation]:
    """The class of a registered name."""
    found: type[Allocation] = registered(registry()[name])
    return found


def allocations_for(mechanism: str) -> dict[str, type[Allocation]]:
    """By name, those that have a meaning for a mechanism."""
    classes = {name: allocation_class(name) for name in registry()}
    return {name: cls for name, cls in classes.items() if mechanism in cls.mechanisms}


def split_choice(value: Any) -> tuple[str, Any]:
    """Name and options of what was written.

    >>> split_choice({"inverse": {"alpha": 2}}), split_choice("uniform")
    (('inverse', {'alpha': 2}), ('uniform', {}))

    Raises:
        ValueError: if it is neither a name nor one name with options.
    """
    if isinstance(value, str):
        return value, {}
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, options),) = value.items()
        if isinstance(name, str) and isinstance(options, Mapping | None):
            return name, options or {}
    raise ValueError(f"{value!r} is no allocation; write a name, or {{inverse: {{alpha: 2}}}}")


def read_choice(value: Any, mechanism: str) -> Choice:
    """What was written, with every default filled in: the name alone if it has no options.

    >>> read_choice("uniform", "width")
    'uniform'

    Raises:
        ValueError: for an unknown allocation, one without meaning for the mechanism, or unknown or wrong options.
    """
    name, given = split_choice(value)
    fitting = allocations_for(mechanism)
    if name not in registry():
        raise ValueError(f"unknown allocation '{name}'{nearest(name, fitting)}")
    if name not in fitting:
        others = " and ".join(allocation_class(name).mechanisms)
        raise ValueError(f"'{name}' shares a budget of {others}, not of {mechanism}; write {', '.join(fitting)}")
    model = fitting[name].Options
    if unknown := [key for key in given if key not in model.model_fields]:
        raise ValueError(
            "; ".join(f"{name}.{key}: unknown option{nearest(key, model.model_fields)}" for key in unknown)
        )
    try:
        options = model(**given).model_dump()
    except ValidationError as error:
        raise ValueError("; ".join(f"{name}.{explain(item)}" for item in error.errors())) from None
    return {name: options} if options else name


def may_choose(value: Any, mechanism: str) -> bool:
    """Whether what was written has a meaning for a mechanism; true as well where it has for none, which is an error."""
    try:
        name, _ = split_choice(value)
    except ValueError:
        return True
    return name not in registry() or mechanism in allocation_class(name).mechanisms


def option_of(key: str, mechanism: str) -> str | None:
    """Where an option of allocations is written; None if none that fits the mechanism has it.

    >>> option_of("alpha", "width")
    'an option of the allocation inverse or proportional: allocation: {inverse: {alpha: ...}}'
    """
    owners = [name for name, cls in allocations_for(mechanism).items() if key in cls.Options.model_fields]
    if not owners:
        return None
    return f"an option of the allocation {' or '.join(owners)}: allocation: {{{owners[0]}: {{{key}: ...}}}}"


def make_allocation(choice: Choice) -> Allocation:
    """The allocation that a valid choice stands for."""
    name, options = split_choice(choice)
    return allocation_class(name)(**options)


def allocation_module(choice: Choice) -> str:
    """Dotted module of a chosen allocation, for the digest of a job that runs it."""
    return module_of(registry()[split_choice(choice)[0]])


def choice_schema(schema: dict[str, Any], mechanism: str) -> None:
    """Fill in a JSON schema of what may be written."""
    fitting = allocations_for(mechanism)
    properties = {name: cls.Options.model_json_schema() for name, cls in fitting.items() if cls.Options.model_fields}
    schema.pop("type", None)
    schema["anyOf"] = [
        {"enum": list(fitting)},
        {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        },
    ]

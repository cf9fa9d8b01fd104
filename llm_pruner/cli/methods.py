"""The command that lists methods, allocations, refinements and repairs, with their options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from llm_pruner.cli.common import Json, emit
from llm_pruner.mechanisms import all_mechanisms
from llm_pruner.methods import METHODS
from llm_pruner.planning.allocations.choice import ALLOCATION
from llm_pruner.refinements.choice import REFINEMENT
from llm_pruner.repairs.choice import REPAIR
from llm_pruner.system.choice import Choices
from llm_pruner.variants.variant import load_class


def methods(as_json: Json = False) -> None:
    """List methods, allocations, refinements and repairs with purpose, mechanisms, options, defaults and papers."""
    listed = {
        "methods": [_method(name) for name in METHODS],
        "allocations": _entries(ALLOCATION),
        "refinements": _entries(REFINEMENT),
        "repairs": _entries(REPAIR),
        "mechanisms": {each.name: _options(each.Options) for each in all_mechanisms() if each.Options.model_fields},
    }
    if as_json:
        emit(listed, "", as_json)
    else:
        _show(listed)


def _method(name: str) -> dict[str, Any]:
    cls = load_class(METHODS[name])
    return {
        "name": name,
        "title": cls.title,
        "mechanisms": list(cls.mechanisms),
        "options": _options(cls.Options),
        "sets": dict(cls.defaults),
        "paper": cls.paper,
    }


def _entries(choices: Choices) -> list[dict[str, Any]]:
    classes = {name: choices.class_of(name) for name in choices.entries}
    return [
        {
            "name": name,
            "title": cls.title,
            "mechanisms": list(cls.mechanisms),
            "options": _options(cls.Options),
            "paper": cls.paper,
        }
        for name, cls in classes.items()
    ]


def _options(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    return {
        key: {
            "default": None if field.is_required() else field.default,
            "description": " ".join((field.description or "").split()),
        }
        for key, field in model.model_fields.items()
    }


def _show(listed: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    console = Console()
    for heading, mechanisms in (
        ("Method", "Prunes by"),
        ("Allocation", "For mechanisms"),
        ("Refinement", "For mechanisms"),
        ("Repair", "For mechanisms"),
    ):
        table = Table(
            heading, "What it does, and its paper", mechanisms, Column("Options", overflow="fold"), show_lines=True
        )
        for entry in listed[f"{heading.lower()}s"]:
            options = [_setting(key, option["default"]) for key, option in entry["options"].items()]
            options += [f"sets {_setting(key, value)}" for key, value in entry.get("sets", {}).items()]
            about = [entry["title"], *([entry["paper"]] if entry["paper"] else [])]
            table.add_row(
                *map(escape, (entry["name"], "\n".join(about), ", ".join(entry["mechanisms"]), "\n".join(options)))
            )
        console.print(table)
    for mechanism, options in listed["mechanisms"].items():
        table = Table("Option", "What it does", title=f"Options of every method that prunes by {mechanism}")
        for key, option in options.items():
            table.add_row(escape(_setting(key, option["default"])), escape(option["description"]))
        console.print(table)


def _setting(key: str, value: Any) -> str:
    return key if value is None else f"{key}={value}"

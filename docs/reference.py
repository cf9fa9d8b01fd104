"""Writes configuration.md from the configuration's own model, so that the two cannot disagree."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from tabulate import tabulate

from llm_pruner.builtin.training import BuiltinModel
from llm_pruner.config import Config
from llm_pruner.families.options import FAMILY_OPTIONS
from llm_pruner.methods import METHODS
from llm_pruner.naming import GRAMMAR
from llm_pruner.variants import load_class

PAGE = Path(__file__).parent / "configuration.md"


def render() -> str:
    """The page as Markdown."""
    parts = ["# Configuration", "Every key may be left out but `variants`. Unknown keys are refused.", "## Top level"]
    parts.append(_table(Config))
    parts += _sections(Config)
    parts += [
        "## `model.builtin`",
        "Size and schedule of the built-in model; lengths in tokens, learning rates are peaks.",
    ]
    parts.append(
        _markdown([(f"`{field.name}`", f"`{field.default}`") for field in fields(BuiltinModel)], ["key", "default"])
    )
    parts += ["## Variants", f"A name says what is done: {GRAMMAR}. Options by mechanism:"]
    for family, options in FAMILY_OPTIONS.items():
        if options.model_fields:
            parts += [f"### {family}", _table(options)]
    parts += ["## Methods", _methods()]
    for name, implementation in METHODS.items():
        options = load_class(implementation).Options
        if options.model_fields:
            parts += [f"### {name}", _table(options)]
    return "\n\n".join(parts) + "\n"


def _sections(model: type[BaseModel], path: str = "") -> list[str]:
    """A heading and a table for every part of the configuration that has keys of its own, parts of parts included."""
    parts = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            parts += [f"## `{path}{name}`", _table(field.annotation), *_sections(field.annotation, f"{path}{name}.")]
    return parts


def _table(model: type[BaseModel]) -> str:
    rows = [
        (f"`{name}`", _default(field.get_default(call_default_factory=True)), _cell(field.description or "", name))
        for name, field in model.model_fields.items()
    ]
    return _markdown(rows, ["key", "default", "meaning"])


def _cell(description: str, name: str) -> str:
    """A docstring as one line of a Markdown table."""
    if not description:
        raise ValueError(f"'{name}' has no description")
    return " ".join(description.split()).replace("|", "\\|").replace("``", "`")


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    return "see below" if isinstance(value, BaseModel) else f"`{value}`"


def _methods() -> str:
    rows = []
    for name, implementation in METHODS.items():
        method = load_class(implementation)
        rows.append((f"`{name}`", method.title, ", ".join(method.families), method.paper))
    return _markdown(rows, ["method", "what it does", "mechanisms", "source"])


def _markdown(rows: list[tuple[Any, ...]], headings: list[str]) -> str:
    return tabulate(rows, headings, "pipe", disable_numparse=True)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")

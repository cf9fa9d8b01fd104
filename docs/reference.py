"""Writes what the sources already say into the pages, so that the two cannot disagree.

Whole pages are configuration.md and command_line.md. In others a region between ``<!-- generated: NAME -->`` and
``<!-- end -->`` is written, and the rest is left to people.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from tabulate import tabulate
from typer.cli import get_docs_for_click

from llm_pruner.cli import app
from llm_pruner.families.options import FAMILY_OPTIONS
from llm_pruner.methods import METHODS
from llm_pruner.methods.base import Method
from llm_pruner.variants.grammar import GRAMMAR
from llm_pruner.variants.variant import load_class
from llm_pruner.workflow.config import Config

DOCS = Path(__file__).parent
_AMOUNTS = {
    "dense": [""],
    "width": ["_2000"],
    "depth": ["_remove_2"],
    "sparse": ["_unstructured_5000", "_2of4"],
    "slice": ["_2000"],
}
"""What follows a method's name in those of variants, by mechanism."""


def render() -> dict[Path, str]:
    """The content of every page that is generated, wholly or in part."""
    pages = {DOCS / "configuration.md": _configuration(), DOCS / "command_line.md": _command_line()}
    index = DOCS / "methods" / "index.md"
    pages[index] = _filled(index, {"methods": _methods()})
    for name in METHODS:
        page, method = method_page(name), load_class(METHODS[name])
        if not page.exists():
            raise FileNotFoundError(f"{page}: the method {name} has no page; write one like that of another method")
        pages[page] = _filled(page, {"about": _about(method), "options": _options(method)})
    return pages


def method_page(name: str) -> Path:
    """Where a method is described."""
    return DOCS / "methods" / f"{name.lower()}.md"


def _filled(page: Path, regions: dict[str, str]) -> str:
    """The page with its regions written anew."""
    text = page.read_text(encoding="utf-8")
    for name, content in regions.items():
        region = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, found = region.subn(lambda match, content=content: f"{match[1]}\n{content}\n\n{match[2]}", text)
        if found != 1:
            raise ValueError(f"{page}: needs one region '{name}', has {found}")
    return text


# --- configuration -----------------------------------------------------------------------------------------


def _configuration() -> str:
    parts = ["# Configuration", "Every key may be left out but `variants`. Unknown keys are refused.", "## Top level"]
    parts.append(_table(Config))
    parts += _sections(Config)
    parts += ["## Variants", f"A name says what is done: {GRAMMAR}. Options by mechanism:"]
    for family, options in FAMILY_OPTIONS.items():
        if options.model_fields:
            parts += [f"### {family}", _table(options)]
    links = ", ".join(f"[{name}](methods/{method_page(name).name}#options)" for name in METHODS)
    parts += ["## Methods", f"Options of a method stand on its page: {links}."]
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


# --- methods -----------------------------------------------------------------------------------------------


def _methods() -> str:
    rows = [
        (f"[{name}]({method_page(name).name})", method.title, ", ".join(method.families))
        for name, method in ((name, load_class(METHODS[name])) for name in METHODS)
    ]
    return _markdown(rows, ["method", "what goes, or stays", "mechanisms"])


def _about(method: type[Method]) -> str:
    variants = [f"`{method.name}{amount}`" for family in method.families for amount in _AMOUNTS[family]]
    lines = [f"{method.title}.", f"- Prunes by: {', '.join(method.families)}; variants such as {', '.join(variants)}."]
    if method.families == ("dense",):
        lines[1] = f"- Prunes nothing; the variant is {variants[0]}."
    if method.paper:
        source = re.sub(r"arXiv:([0-9.]+)", r"[arXiv:\1](https://arxiv.org/abs/\1)", method.paper)
        lines.append(f"- Source: {source}.")
    if method.scores_of:
        lines.append(f"- Plans from the scores of [{method.scores_of}]({method_page(method.scores_of).name}).")
    return "\n".join([lines[0], "", *lines[1:]])


def _options(method: type[Method]) -> str:
    own = _table(method.Options) if method.Options.model_fields else "It has no options of its own."
    sets = [f"`{key}: {value}`" for key, value in method.defaults.items()]
    shared = [f"[{name}](../configuration.md#{name})" for name in method.families if FAMILY_OPTIONS[name].model_fields]
    lines = [own]
    if sets:
        lines.append(f"Unless a variant says otherwise it sets {', '.join(sets)}.")
    if shared:
        lines.append(f"Options of every variant that prunes by these mechanisms: {', '.join(shared)}.")
    return "\n\n".join(lines)


# --- command line ------------------------------------------------------------------------------------------


def _command_line() -> str:
    group: Any = typer.main.get_command(app)
    context = typer.Context(group, info_name="llm-pruner")
    parts = [f"# Command line\n\n{group.help}\n"]
    for name, command in group.commands.items():
        parts.append(get_docs_for_click(obj=command, ctx=context, indent=1, name=name, call_prefix="llm-pruner"))
    # the example that ends a command's help
    return re.sub(r"^(llm-pruner .*)$", r"```console\n$ \1\n```", "\n".join(parts), flags=re.MULTILINE).rstrip() + "\n"


def _markdown(rows: list[tuple[Any, ...]], headings: list[str]) -> str:
    return tabulate(rows, headings, "pipe", disable_numparse=True)


if __name__ == "__main__":
    for page, content in render().items():
        page.write_text(content, encoding="utf-8")
        sys.stdout.write(f"{page}\n")

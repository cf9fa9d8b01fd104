"""Writes what the sources already say into the pages, so that the two cannot disagree.

Whole files are configuration.md, command_line.md and config.schema.json. In others a region between
``<!-- generated: NAME -->`` and ``<!-- end -->`` is written, and the rest is left to people.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import models_json_schema
from tabulate import tabulate
from typer.cli import get_docs_for_click

from llm_pruner.cli import app
from llm_pruner.cli.quick import quick
from llm_pruner.encoders.options import RowOptions
from llm_pruner.mechanisms import all_mechanisms, get_mechanism
from llm_pruner.methods import METHODS
from llm_pruner.methods.base import Method
from llm_pruner.planning.allocations import ALLOCATIONS
from llm_pruner.planning.allocations.choice import ALLOCATION
from llm_pruner.steps import STEPS
from llm_pruner.steps.base import step_class
from llm_pruner.variants.grammar import GRAMMAR
from llm_pruner.variants.variant import load_class
from llm_pruner.workflow.config import Config, EncodersConfig

DOCS = Path(__file__).parent


def render() -> dict[Path, str]:
    """The content of every page that is generated, wholly or in part."""
    pages = {DOCS / "configuration.md": _configuration(), DOCS / "command_line.md": _command_line()}
    pages[DOCS / "config.schema.json"] = json.dumps(_schema(), indent=2, ensure_ascii=False) + "\n"
    page = DOCS / "allocations.md"
    pages[page] = _filled(page, {"allocations": _allocations(), "options": _allocation_options()})
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
    for mechanism in all_mechanisms():
        if mechanism.Options.model_fields:
            parts += [f"### {mechanism.name}", _table(mechanism.Options)]
    parts.append("What `allocation` may be, with the options of each: [Allocations](allocations.md).")
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
        (f"`{name}`", _default(field), _cell(field.description or "", name))
        for name, field in model.model_fields.items()
    ]
    return _markdown(rows, ["key", "default", "meaning"])


def _cell(description: str, name: str) -> str:
    """A docstring as one line of a Markdown table."""
    if not description:
        raise ValueError(f"'{name}' has no description")
    return " ".join(description.split()).replace("|", "\\|").replace("``", "`")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "see below" if isinstance(value, BaseModel) else f"`{value}`"


def _schema() -> dict[str, Any]:
    """The configuration as a JSON schema, by which editors complete keys and mark wrong ones.

    ``Config`` leaves the options of methods, steps and rows open, since they depend on a name;
    here they are filled in by name.
    """
    classes = {name: load_class(implementation) for name, implementation in METHODS.items()}
    mechanisms = {name: [get_mechanism(each).Options for each in cls.mechanisms] for name, cls in classes.items()}
    steps = {name: step_class(implementation).Options for name, implementation in STEPS.items()}
    models = [
        Config,
        EncodersConfig,
        RowOptions,
        *steps.values(),
        *(mechanism.Options for mechanism in all_mechanisms()),
    ]
    models += [cls.Options for cls in classes.values()]
    references, schema = models_json_schema([(model, "validation") for model in dict.fromkeys(models)])
    reference = {model: found for (model, _), found in references.items()}
    definitions = schema["$defs"]

    def of(model: type[BaseModel]) -> dict[str, Any]:
        return definitions[reference[model]["$ref"].rpartition("/")[2]]

    for mechanism in all_mechanisms():
        properties = of(mechanism.Options).get("properties", {})
        if "allocation" in properties:  # written once, however many methods have it
            definitions[f"{mechanism.name}.allocation"] = properties["allocation"]
            properties["allocation"] = {"$ref": f"#/$defs/{mechanism.name}.allocation"}

    definitions |= {
        f"{name}.options": {
            "type": "object",
            "properties": _merged(of(model).get("properties", {}) for model in [cls.Options, *mechanisms[name]]),
            "additionalProperties": False,
        }
        for name, cls in classes.items()
    }
    options = {name: {"$ref": f"#/$defs/{name}.options"} for name in classes}
    no_options, own_class = {"type": "null"}, {"type": "object", "required": ["method"]}
    entries = {rf"^{name}(_[^+]+)?$": {"anyOf": [no_options, keys, own_class]} for name, keys in options.items()}
    entries |= {rf"\+{step}$": {"anyOf": [no_options, reference[model]]} for step, model in steps.items()}

    config = of(Config)
    config["properties"]["methods"] |= {"properties": options, "additionalProperties": False}
    config["properties"]["variants"]["items"] = {
        "anyOf": [{"type": "string"}, {"type": "object", "patternProperties": entries}]
    }
    of(EncodersConfig)["properties"]["rows"]["additionalProperties"] = reference[RowOptions]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **reference[Config], "$defs": definitions}


def _merged(properties: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Properties of several models; of a key that two have, either form."""
    merged: dict[str, Any] = {}
    for key, value in (item for part in properties for item in part.items()):
        merged[key] = {"anyOf": [merged[key], value]} if merged.get(key, value) != value else value
    return merged


# --- methods -----------------------------------------------------------------------------------------------


def _methods() -> str:
    rows = [
        (f"[{name}]({method_page(name).name})", method.title, ", ".join(method.mechanisms))
        for name, method in ((name, load_class(METHODS[name])) for name in METHODS)
    ]
    return _markdown(rows, ["method", "what goes, or stays", "mechanisms"])


def _allocations() -> str:
    rows = [
        (f"`{name}`", cls.title, ", ".join(cls.mechanisms), ", ".join(cls.needs) or "nothing", _linked(cls.paper))
        for name, cls in ((name, ALLOCATION.class_of(name)) for name in ALLOCATIONS)
    ]
    return _markdown(rows, ["allocation", "how layers share", "of", "goes by", "source"])


def _allocation_options() -> str:
    classes = {name: ALLOCATION.class_of(name) for name in ALLOCATIONS}
    by_options: dict[type[BaseModel], list[str]] = {}
    for name, cls in classes.items():
        if cls.Options.model_fields:
            by_options.setdefault(cls.Options, []).append(name)
    return "\n\n".join(f"### {', '.join(names)}\n\n{_table(options)}" for options, names in by_options.items())


def _linked(paper: str) -> str:
    """A paper with a link to it."""
    return re.sub(r"arXiv:([0-9.]+)", r"[arXiv:\1](https://arxiv.org/abs/\1)", paper)


def _about(method: type[Method]) -> str:
    mechanisms = [get_mechanism(name) for name in method.mechanisms]
    variants = [f"`{method.name}{amount}`" for mechanism in mechanisms for amount in mechanism.examples]
    lines = [
        f"{method.title}.",
        f"- Prunes by: {', '.join(method.mechanisms)}; variants such as {', '.join(variants)}.",
    ]
    if all(mechanism.asks == "nothing" for mechanism in mechanisms):
        lines[1] = f"- Prunes nothing; the variant is {variants[0]}."
    if method.paper:
        lines.append(f"- Source: {_linked(method.paper)}.")
    if method.scores_of:
        lines.append(f"- Plans from the scores of [{method.scores_of}]({method_page(method.scores_of).name}).")
    return "\n".join([lines[0], "", *lines[1:]])


def _options(method: type[Method]) -> str:
    own = _table(method.Options) if method.Options.model_fields else "It has no options of its own."
    sets = [f"`{key}: {value}`" for key, value in method.defaults.items()]
    shared = [
        f"[{name}](../configuration.md#{name})"
        for name in method.mechanisms
        if get_mechanism(name).Options.model_fields
    ]
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
    alone = typer.Typer(add_completion=False)
    alone.command()(quick)
    whole: Any = typer.main.get_command(alone)
    parts = [f"# Command line\n\n{group.help}\n"]
    parts.append(get_docs_for_click(obj=whole, ctx=context, indent=1, name="llm-pruner"))
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

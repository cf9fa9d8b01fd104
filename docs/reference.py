"""Generates reference pages from the sources, so that pages and sources cannot disagree.

It writes the whole of configuration.md, command_line.md, records.md and config.schema.json. In other pages it writes
the regions between ``<!-- generated: NAME -->`` and ``<!-- end -->``; people write the rest.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import models_json_schema
from tabulate import tabulate
from typer.cli import get_docs_for_click

import llm_pruner
from llm_pruner.cli import app
from llm_pruner.cli.quick import quick
from llm_pruner.encoders.options import RowOptions
from llm_pruner.mechanisms import all_mechanisms, get_mechanism
from llm_pruner.methods import METHODS
from llm_pruner.methods.base import Method
from llm_pruner.planning.allocations import ALLOCATIONS
from llm_pruner.planning.allocations.choice import ALLOCATION
from llm_pruner.refinements.choice import REFINEMENT
from llm_pruner.repairs.choice import REPAIR
from llm_pruner.steps import STEPS
from llm_pruner.steps.base import step_class
from llm_pruner.system.choice import Choices
from llm_pruner.system.records import Part, Record
from llm_pruner.variants.grammar import GRAMMAR
from llm_pruner.variants.variant import load_class
from llm_pruner.workflow.config import Config, EncodersConfig

DOCS = Path(__file__).parent


def render() -> dict[Path, str]:
    """The content of every page with generated parts."""
    pages = {DOCS / "configuration.md": _configuration(), DOCS / "command_line.md": _command_line()}
    pages[DOCS / "records.md"] = _records_page()
    pages[DOCS / "config.schema.json"] = json.dumps(_schema(), indent=2, ensure_ascii=False) + "\n"
    page = DOCS / "allocations.md"
    pages[page] = _filled(page, {"allocations": _allocations(), "options": _choice_options(ALLOCATION)})
    page = DOCS / "repairs.md"
    regions = {
        "repairs": _choices(REPAIR, "new values of the kept weights"),
        "repair options": _choice_options(REPAIR),
        "refinements": _choices(REFINEMENT, "exchange of zeros and kept weights"),
        "refinement options": _choice_options(REFINEMENT),
    }
    pages[page] = _filled(page, regions)
    index = DOCS / "methods" / "index.md"
    pages[index] = _filled(index, {"methods": _methods()})
    for name in METHODS:
        page, method = method_page(name), load_class(METHODS[name])
        if not page.exists():
            raise FileNotFoundError(f"{page}: the method {name} has no page; write one like that of another method")
        pages[page] = _filled(page, {"about": _about(method), "options": _options(method)})
    return pages


def method_page(name: str) -> Path:
    """The page of a method."""
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
    parts = ["# Configuration", "Only `variants` is required. Unknown keys are refused.", "## Top level"]
    parts.append(_table(Config))
    parts += _sections(Config)
    parts += ["## Variants", f"The name of a variant is {GRAMMAR}. Options by mechanism:"]
    for mechanism in all_mechanisms():
        if mechanism.Options.model_fields:
            parts += [f"### {mechanism.name}", _table(mechanism.Options)]
    parts.append("Values of `allocation`, with their options: [Allocations](allocations.md).")
    parts.append("Values of `repair` and `refine`, with their options: [Repairs](repairs.md).")
    links = ", ".join(f"[{name}](methods/{method_page(name).name}#options)" for name in METHODS)
    parts += ["## Methods", f"The page of a method has its options: {links}."]
    return "\n\n".join(parts) + "\n"


def _sections(model: type[BaseModel], path: str = "") -> list[str]:
    """A heading and a table for every section of the configuration, sections within sections included."""
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
        if "allocation" in properties:  # written once for all methods
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
    """Properties of several models; a key of two models may have either form."""
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
    return _markdown(rows, ["method", "criterion", "mechanisms"])


def _allocations() -> str:
    rows = [
        (f"`{name}`", cls.title, ", ".join(cls.mechanisms), ", ".join(cls.needs) or "none", _linked(cls.paper))
        for name, cls in ((name, ALLOCATION.class_of(name)) for name in ALLOCATIONS)
    ]
    return _markdown(rows, ["allocation", "rule", "mechanisms", "scores", "source"])


def _choices(choices: Choices, what: str) -> str:
    classes = {name: choices.class_of(name) for name in choices.entries}
    rows = [(f"`{name}`", cls.title, ", ".join(cls.mechanisms), _linked(cls.paper)) for name, cls in classes.items()]
    return _markdown(rows, [choices.kind, what, "mechanisms", "source"])


def _choice_options(choices: Choices) -> str:
    classes = {name: choices.class_of(name) for name in choices.entries}
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


# --- records -----------------------------------------------------------------------------------------------

_INTRODUCTION = """\
# Result files

Every result file is JSON, and one class reads and writes it: `PerplexityResult.read(path)` returns the file as an
object, or raises one error that names every damaged place. In a path, `{variant}` is a row of the table,
`{score}` the name of scores that rows share, `{row}` and `{seed}` a row of the [classifiers](encoders.md). Commands
write the same files to the output that you name. `plan.json` is no result but a plan, the list of parts that stay:
[How it works](architecture.md)."""
_WORDS: Mapping[Any, tuple[str, str]] = {
    int: ("whole number", "whole numbers"),
    float: ("number", "numbers"),
    str: ("text", "texts"),
    bool: ("true or false", "true or false"),
    Any: ("anything", "anything"),
    type(None): ("null", "nulls"),
    TypeVar: ("as the field says that holds it", "as the field says that holds it"),
}


def _records_page() -> str:
    records = sorted(every_record(), key=lambda record: (record.file, len(record.__mro__), record.__name__))
    parts: dict[type[Part], None] = {}
    sections = [section for record in records for section in _record_section(record, parts)]
    tables: dict[str, list[str]] = {}
    while part := next((part for part in parts if part.__name__ not in tables), None):  # a part may add further parts
        tables[part.__name__] = [_docstring(part), _fields_table(part.model_fields, part.__name__, parts)]
    names = [*tables, *(record.__name__ for record in records)]
    if len(set(names)) < len(records) + len(parts):
        raise ValueError(f"two records or parts have the same name, so links are ambiguous: {sorted(names)}")
    rows = [(f"`{record.file}`", _to_section(record), _sentence(record)) for record in records]
    lines = [_INTRODUCTION, _markdown(rows, ["file", "record", "contents"]), *sections]
    lines += ["## Parts", "Parts of records, by name."]
    lines += [line for name in sorted(tables) for line in (f"### {name}", *tables[name])]
    return "\n\n".join(lines) + "\n"


def every_record() -> set[type[Record]]:
    """Every record of the package."""
    for module in pkgutil.walk_packages(llm_pruner.__path__, "llm_pruner."):
        importlib.import_module(module.name)
    found: set[type[Record]] = set()
    pending = Record.__subclasses__()
    while pending:
        record = pending.pop()
        found.add(record)
        pending += record.__subclasses__()
    return {record for record in found if record.__module__.startswith("llm_pruner.")}


def _record_section(record: type[Record], parts: dict[type[Part], None]) -> list[str]:
    (parent, *_) = [base for base in record.__bases__ if issubclass(base, Record)]
    fields = record.model_fields
    lines = [f"## {record.__name__}", _docstring(record)]
    lines.append(f"File: `{record.file}`. Import: `from {record.__module__} import {record.__name__}`.")
    if parent is not Record:
        known = parent.model_fields
        fields = {
            name: field
            for name, field in fields.items()
            if name not in known or repr(field.annotation) != repr(known[name].annotation)
        }
        lines.append(f"It has the fields of {_to_section(parent)}, and these:")
    return [*lines, _fields_table(fields, record.__name__, parts)]


def _fields_table(fields: Mapping[str, FieldInfo], owner: str, parts: dict[type[Part], None]) -> str:
    rows = [
        (f"`{name}`", _type_cell(field, parts), _cell(field.description or "", f"{owner}.{name}"))
        for name, field in fields.items()
    ]
    return _markdown(rows, ["field", "type", "meaning"])


def _type_cell(field: FieldInfo, parts: dict[type[Part], None]) -> str:
    if field.is_required():
        return _in_words(field.annotation, parts)
    # what says no more than its default is not written, so that null is never seen
    words = _in_words(field.annotation, parts).removesuffix(", or null")
    default = field.get_default(call_default_factory=True)
    return f"{words}; may be missing" if default is None else f"{words}; where missing, {_default_in_words(default)}"


def _default_in_words(default: Any) -> str:
    if isinstance(default, Part):
        default = default.model_dump()
    return f"`{json.dumps(default)}`"


def _in_words(annotation: Any, parts: dict[type[Part], None], *, many: bool = False) -> str:
    """A type in words. Adds the parts in it to ``parts``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Part):
        generic = annotation.__pydantic_generic_metadata__
        part = generic["origin"] or annotation
        parts.setdefault(part)
        return _to_section(part) + "".join(f" of {_in_words(each, parts, many=True)}" for each in generic["args"])
    if origin is Annotated:
        return _in_words(arguments[0], parts, many=many)
    if origin is Literal:
        *values, last = (f"`{json.dumps(each)}`" for each in arguments)
        return f"{', '.join(values)} or {last}" if values else last
    if origin in (Union, UnionType):
        return (" or " if many else ", or ").join(_in_words(each, parts, many=many) for each in arguments)
    if origin in (tuple, dict):
        return _collection_in_words(annotation, parts, several="s" if many else "")
    return _WORDS[TypeVar if isinstance(annotation, TypeVar) else annotation][many]


def _collection_in_words(annotation: Any, parts: dict[type[Part], None], *, several: str) -> str:
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        held = "" if arguments[1] is Any else f" of {_in_words(arguments[1], parts, many=True)}, by name"
        return f"object{several}{held}"
    inner = " and ".join(dict.fromkeys(_in_words(each, parts, many=True) for each in arguments if each is not ...))
    return f"list{several} of {inner}" if ... in arguments else f"list{several} of {len(arguments)} {inner}"


def _to_section(model: type[BaseModel]) -> str:
    return f"[{model.__name__}](#{model.__name__.lower()})"


def _docstring(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "").replace("``", "`")


def _sentence(model: type[BaseModel]) -> str:
    return _docstring(model).partition("\n")[0]


def _markdown(rows: list[tuple[Any, ...]], headings: list[str]) -> str:
    return tabulate(rows, headings, "pipe", disable_numparse=True)


if __name__ == "__main__":
    for page, content in render().items():
        page.write_text(content, encoding="utf-8")
        sys.stdout.write(f"{page}\n")

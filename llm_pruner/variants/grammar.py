"""Names of pruned models and what they mean.

Dense                          the base itself
Magnitude_2000                 width: 20.00 % of all parameters
GQA_uniform_2000               the same with a label, for a second set of options
SliceGPT_2000                  slice: 20.00 % of the hidden width
Magnitude_unstructured_5000    sparse: 50.00 % of the blocks' linear weights
Wanda_2of4                     sparse: 2 of every 4 consecutive weights
ShortGPT_remove_2              depth: 2 layers
GQA_2000+lora                  GQA_2000, healed by low-rank fine-tuning
GQA_2000+lora+nf4              and then stored in 4 bits
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from llm_pruner.families.options import FAMILY_OPTIONS, DepthOptions, WidthOptions
from llm_pruner.methods import METHODS
from llm_pruner.steps import STEPS
from llm_pruner.steps.base import step_class
from llm_pruner.system.errors import ConfigError, explain, nearest
from llm_pruner.variants.variant import DENSE, Score, StepSpec, Variant, load_class

Checked = TypeVar("Checked", bound=BaseModel)


def either(names: Iterable[str]) -> str:
    """Names in a sentence.

    >>> either(["lora", "kd", "nf4"])
    'lora, kd or nf4'
    """
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


_NAME = re.compile(
    r"(?P<method>[A-Za-z][A-Za-z0-9]*)"
    r"(?:_(?P<label>(?!unstructured_|remove_)[A-Za-z][A-Za-z0-9-]*))?"
    r"_(?:(?P<width>\d{4})|unstructured_(?P<sparse>\d{4})|(?P<n>\d+)of(?P<m>\d+)|remove_(?P<layers>\d+))"
)
_BY_RATIO = ("width", "slice")
"""Mechanisms that a bare ratio may stand for; a method has one of them at most."""
GRAMMAR = (
    "Method_2000, Method_unstructured_5000, Method_2of4, Method_remove_2, Method_label_2000 or Dense, and any of them "
    f"with {either(f'+{step}' for step in STEPS)}"
)


def resolve(name: str, options: Mapping[str, Any] | None = None) -> Variant:
    """The variant a name and its options stand for, every default filled in.

    Raises:
        ConfigError: for a name outside the grammar, an unknown method, a mechanism the method has not, an
            impossible amount, or unknown or wrong options; all problems of the name at once.
    """
    own = dict(options or {})
    custom = own.pop("method", None)
    method, family, structure, amount = _parse(name)
    if not custom and method not in METHODS:
        raise ConfigError([f"unknown method '{method}'{nearest(method, METHODS)}"], name)
    implementation = custom or METHODS[method]
    try:
        cls = load_class(implementation)
    except ConfigError as error:
        raise ConfigError([f"method: {problem}" for problem in error.problems], name) from None
    if structure in _BY_RATIO:
        family = structure = next((own for own in cls.families if own in _BY_RATIO), family)
    if family not in cls.families:
        raise ConfigError([f"{method} cannot prune by {family}, only by {' or '.join(cls.families)}"], name)
    models = {"options": FAMILY_OPTIONS[family], "method_options": cls.Options}
    given = {key: value for key, value in cls.defaults.items() if key in models["options"].model_fields}
    given |= own
    known = {key for model in models.values() for key in model.model_fields}
    problems = [f"{key}: unknown option{nearest(key, known)}" for key in given if key not in known]
    resolved: dict[str, BaseModel] = {}
    for kind, model in models.items():
        try:
            resolved[kind] = model(**{key: value for key, value in given.items() if key in model.model_fields})
        except ValidationError as error:
            problems += [explain(item) for item in error.errors()]
    importance = None
    own_options = resolved.get("options")
    if isinstance(own_options, WidthOptions) and own_options.needs_importance:
        try:
            importance = _importance(own_options)
        except ConfigError as error:
            problems += error.problems
    if isinstance(own_options, DepthOptions) and own_options.drop not in cls.parts:
        problems.append(f"drop: {method} can score {' or '.join(cls.parts)} alone, not {own_options.drop!r}")
    if problems:
        raise ConfigError(problems, name)
    method_options = resolved["method_options"].model_dump()
    scored = family in ("width", "depth")
    return Variant(
        name,
        method,
        implementation,
        family,
        structure,
        amount,
        score_of(cls.scores_of or method, family, method_options, resolved["options"], custom) if scored else None,
        cls(**method_options).calibrated,
        resolved["options"].model_dump(),
        method_options,
        importance,
        None if method == DENSE else DENSE,
    )


def derive(parent: Variant, step: str, options: Mapping[str, Any] | None = None) -> Variant:
    """The variant that a step makes of another, such as ``GQA_2000+lora`` of ``GQA_2000``.

    Raises:
        ConfigError: for an unknown step, one that cannot follow the parent's, or unknown or wrong options.
    """
    name = f"{parent.name}+{step}"
    if step not in STEPS:
        raise ConfigError([f"unknown step '+{step}'{nearest(step, STEPS)}"], name)
    if parent.step and step_class(parent.step.implementation).terminal:
        raise ConfigError([f"nothing can follow +{parent.step.name}; put +{parent.step.name} last"], name)
    resolved = checked(step_class(STEPS[step]).Options, options or {}, name)
    return replace(
        parent,
        name=name,
        parent=parent.name,
        step=StepSpec(step, STEPS[step], resolved.model_dump(mode="json")),
        score=None,
        importance=None,
    )


def checked(model: type[Checked], options: Mapping[str, Any], name: str) -> Checked:
    """Options of a model that refuses what it does not know.

    Raises:
        ConfigError: with every unknown or wrong option; ``name`` says of what.
    """
    known = model.model_fields
    problems = [f"{key}: unknown option{nearest(key, known)}" for key in options if key not in known]
    try:
        resolved = model(**{key: value for key, value in options.items() if key in known})
    except ValidationError as error:
        problems += [explain(item) for item in error.errors()]
    if problems:
        raise ConfigError(problems, name)
    return resolved


def score_of(
    method: str,
    family: str,
    options: Mapping[str, Any],
    family_options: BaseModel | None = None,
    implementation: str | None = None,
) -> Score:
    """The scores that a method gives with these options; ``implementation`` of one that is not registered."""
    implementation = implementation or METHODS[method]
    pruner = load_class(implementation)(**options)
    resolved = pruner.options.model_dump()
    defaults = pruner.Options().model_dump()
    model = FAMILY_OPTIONS[family]
    mechanism, usual = (
        {key: getattr(own, key) for key in model.scored} for own in (family_options or model(), model())
    )
    name = score_name(method, defaults | usual, resolved | mechanism)
    return Score(name, implementation, family, resolved, pruner.calibrated, mechanism)


def _importance(options: WidthOptions) -> Score:
    """The layer scores that the allocation asks for."""
    rankers = [name for name, implementation in METHODS.items() if "depth" in load_class(implementation).families]
    if options.importance not in rankers:
        hint = nearest(options.importance, rankers)
        raise ConfigError(
            [f"importance: '{options.importance}' scores no layers{hint} (these do: {', '.join(rankers)})"]
        )
    samples = {} if options.importance_samples is None else {"samples": options.importance_samples}
    return score_of(options.importance, "depth", samples)


def known_options(method: str) -> set[str]:
    """Every option that some variant of a method understands."""
    cls = load_class(METHODS[method])
    models = [cls.Options, *(FAMILY_OPTIONS[family] for family in cls.families)]
    return {key for model in models for key in model.model_fields}


def score_name(method: str, defaults: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """What a method's scores are called: its name and the options that are not the default.

    >>> score_name("GQA", {"samples": None}, {"samples": 16})
    'GQA-samples=16'
    """
    changed = [f"{key}={value}" for key, value in sorted(options.items()) if value != defaults[key]]
    return "-".join([method, *changed])


def _parse(name: str) -> tuple[str, str, str, float]:
    """(method, family, structure, amount) of a name."""
    if name == DENSE:
        return DENSE, "dense", "dense", 0.0
    match = _NAME.fullmatch(name)
    if not match:
        raise ConfigError([f"not a variant name; write {GRAMMAR}"], name)
    method = match["method"]
    if match["layers"]:
        if int(match["layers"]) == 0:
            raise ConfigError(["removes no layer; that is Dense"], name)
        return method, "depth", "depth", int(match["layers"])
    if match["n"]:
        n, m = int(match["n"]), int(match["m"])
        if not 0 < n < m:
            raise ConfigError([f"N of M sparsity needs 0 < N < M, not {n} of {m}"], name)
        return method, "sparse", f"{n}:{m}", n / m
    digits = match["width"] or match["sparse"]
    if int(digits) == 0:
        raise ConfigError(["removes nothing; that is Dense"], name)
    ratio = int(digits) / 10_000
    return (method, "width", "width", ratio) if match["width"] else (method, "sparse", "unstructured", ratio)

"""Names of pruned models and what they mean.

Dense                          the base itself
Magnitude_2000                 width: 20.00 % of all parameters
GQA_uniform_2000               the same with a label, for a second set of options
Magnitude_unstructured_5000    sparse: 50.00 % of the blocks' linear weights
Wanda_2of4                     sparse: 2 of every 4 consecutive weights
ShortGPT_remove_2              depth: 2 layers
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from llm_pruner.errors import ConfigError, nearest
from llm_pruner.families.options import FAMILY_OPTIONS
from llm_pruner.methods import METHODS
from llm_pruner.variants import Variant, load_class

_NAME = re.compile(
    r"(?P<method>[A-Za-z][A-Za-z0-9]*)"
    r"(?:_(?P<label>(?!unstructured_|remove_)[A-Za-z][A-Za-z0-9-]*))?"
    r"_(?:(?P<width>\d{4})|unstructured_(?P<sparse>\d{4})|(?P<n>\d+)of(?P<m>\d+)|remove_(?P<layers>\d+))"
)
GRAMMAR = "Method_2000, Method_unstructured_5000, Method_2of4, Method_remove_2, Method_label_2000 or Dense"


def resolve(name: str, options: Mapping[str, Any] | None = None) -> Variant:
    """The variant a name and its options stand for, every default filled in.

    Raises:
        ConfigError: for a name outside the grammar, an unknown method, a mechanism the method has not, an
            impossible amount, or unknown or wrong options; all problems of the name at once.
    """
    options = options or {}
    method, family, structure, amount = _parse(name)
    implementation = METHODS[method]
    cls = load_class(implementation)
    if family not in cls.families:
        raise ConfigError([f"{method} cannot prune by {family}, only by {' or '.join(cls.families)}"], name)
    models = {"options": FAMILY_OPTIONS[family], "method_options": cls.Options}
    known = {key for model in models.values() for key in model.model_fields}
    problems = [f"{key}: unknown option{nearest(key, known)}" for key in options if key not in known]
    resolved: dict[str, dict[str, Any]] = {}
    for kind, model in models.items():
        own = {key: value for key, value in options.items() if key in model.model_fields}
        try:
            resolved[kind] = model(**own).model_dump()
        except ValidationError as error:
            problems += [f"{item['loc'][0]}: {item['msg']}, not {item['input']!r}" for item in error.errors()]
    if problems:
        raise ConfigError(problems, name)
    pruner = cls(**resolved["method_options"])
    score = score_name(method, pruner.Options().model_dump(), resolved["method_options"])
    return Variant(
        name,
        method,
        implementation,
        family,
        structure,
        amount,
        score if family in ("width", "depth") else None,
        pruner.calibrated,
        **resolved,
    )


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
    if name == "Dense":
        return "Dense", "dense", "dense", 0.0
    match = _NAME.fullmatch(name)
    if not match:
        raise ConfigError([f"not a variant name; write {GRAMMAR}"], name)
    method = match["method"]
    if method not in METHODS:
        raise ConfigError([f"unknown method '{method}'{nearest(method, METHODS)}"], name)
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

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
from dataclasses import asdict, dataclass, field
from typing import Any

from llm_pruner.errors import ConfigError, nearest
from llm_pruner.methods import METHODS, get_method

_NAME = re.compile(
    r"(?P<method>[A-Za-z][A-Za-z0-9]*)"
    r"(?:_(?P<label>(?!unstructured_|remove_)[A-Za-z][A-Za-z0-9-]*))?"
    r"_(?:(?P<width>\d{4})|unstructured_(?P<sparse>\d{4})|(?P<n>\d+)of(?P<m>\d+)|remove_(?P<layers>\d+))"
)
GRAMMAR = "Method_2000, Method_unstructured_5000, Method_2of4, Method_remove_2, Method_label_2000 or Dense"


@dataclass(frozen=True)
class Variant:
    """One pruned model: a method, a mechanism, an amount and its options, all resolved."""

    name: str
    method: str
    family: str
    structure: str
    """``dense``, ``width``, ``depth``, ``unstructured`` or ``N:M``."""
    amount: float
    """A ratio, or a number of layers for depth."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the family, such as ``uniform``."""
    method_options: dict[str, Any] = field(default_factory=dict)
    """Options of the method, such as ``samples``; with the method they decide the scores."""

    @property
    def asked(self) -> dict[str, Any] | None:
        """The amount and what it is a share or number of."""
        of = {"width": "parameters", "sparse": "weights", "depth": "layers"}.get(self.family)
        return {"amount": self.amount, "of": of} if of else None

    @property
    def score(self) -> str | None:
        """Name of the scores this variant is planned from, shared by all variants with the same method and options.

        None where nothing can be scored ahead: sparse methods decide layer by layer on the way through.
        """
        if self.family not in ("width", "depth"):
            return None
        defaults = get_method(self.method).Options().model_dump()
        changed = {key: value for key, value in self.method_options.items() if value != defaults[key]}
        return "-".join([self.method, *(f"{key}={value}" for key, value in sorted(changed.items()))])

    @property
    def calibrated(self) -> bool:
        """Whether the pruning job itself runs calibration samples."""
        return self.score is None and get_method(self.method)(**self.method_options).calibrated

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def resolve(name: str, options: Mapping[str, Any]) -> Variant:
    """The variant a name and its options stand for, every default filled in.

    Raises:
        ConfigError: for a name outside the grammar, an unknown method, a mechanism the method has not, an
            impossible amount, or unknown or wrong options; all problems at once.
    """
    from pydantic import ValidationError

    from llm_pruner.families import FAMILY_OPTIONS

    method, family, structure, amount = _parse(name)
    cls = get_method(method)
    if family not in cls.families:
        raise ConfigError([f"'{name}': {method} cannot prune by {family}, only by {' or '.join(cls.families)}"], name)
    models = {"options": FAMILY_OPTIONS[family], "method_options": cls.Options}
    known = {key for model in models.values() for key in model.model_fields}
    problems = [f"{key}: unknown option of {name}{nearest(key, known)}" for key in options if key not in known]
    resolved: dict[str, dict[str, Any]] = {}
    for kind, model in models.items():
        own = {key: value for key, value in options.items() if key in model.model_fields}
        try:
            resolved[kind] = model(**own).model_dump()
        except ValidationError as error:
            problems += [
                f"{'.'.join(map(str, item['loc']))}: {item['msg']}, not {item['input']!r}" for item in error.errors()
            ]
    if problems:
        raise ConfigError(problems, name)
    return Variant(name, method, family, structure, amount, **resolved)


def _parse(name: str) -> tuple[str, str, str, float]:
    """(method, family, structure, amount) of a name."""
    if name == "Dense":
        return "Dense", "dense", "dense", 0.0
    match = _NAME.fullmatch(name)
    if not match:
        raise ConfigError([f"'{name}' is not a variant name; write {GRAMMAR}"], name)
    method = match["method"]
    if method not in METHODS:
        raise ConfigError([f"'{name}': unknown method '{method}'{nearest(method, METHODS)}"], name)
    if match["layers"]:
        if int(match["layers"]) == 0:
            raise ConfigError([f"'{name}' removes no layer; that is Dense"], name)
        return method, "depth", "depth", int(match["layers"])
    if match["n"]:
        n, m = int(match["n"]), int(match["m"])
        if not 0 < n < m:
            raise ConfigError([f"'{name}': N:M sparsity needs 0 < N < M, not {n}:{m}"], name)
        return method, "sparse", f"{n}:{m}", n / m
    digits = match["width"] or match["sparse"]
    if int(digits) == 0:
        raise ConfigError([f"'{name}' removes nothing; that is Dense"], name)
    ratio = int(digits) / 10_000
    return (method, "width", "width", ratio) if match["width"] else (method, "sparse", "unstructured", ratio)

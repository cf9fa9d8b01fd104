"""Names of variants and their meaning.

Dense                          the base itself
Magnitude_2000                 width: 20.00 % of all parameters
GQA_uniform_2000               the same with a label, for a second set of options
SliceGPT_2000                  slice: 20.00 % of the hidden width
Magnitude_unstructured_5000    sparse: 50.00 % of the blocks' linear weights
Wanda_2of4                     sparse: 2 of every 4 consecutive weights
ShortGPT_remove_2              depth: 2 layers
ShortGPT_2000                  depth: as many layers as come nearest to 20.00 % of all parameters
GQA_2000+lora                  GQA_2000, healed by low-rank fine-tuning
GQA_2000+lora+nf4              and then stored in 4 bits
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from llm_pruner.mechanisms import all_mechanisms, get_mechanism
from llm_pruner.mechanisms.base import Amount, Mechanism, MechanismOptions
from llm_pruner.methods import METHODS
from llm_pruner.methods.base import LayerMeasure
from llm_pruner.steps import STEPS
from llm_pruner.steps.base import NamedStep, step_class
from llm_pruner.system.errors import ConfigError, nearest, problems_of, shown
from llm_pruner.variants.variant import DENSE, ScoreSpec, StepSpec, Variant, is_class_name, load_class

Checked = TypeVar("Checked", bound=BaseModel)

LONGEST_NAME = 200
"""Largest number of characters of a variant's name. Its files have longer names, of which disks take 255."""


def either(names: Iterable[str]) -> str:
    """Join names for a sentence.

    >>> either(["lora", "kd", "nf4"])
    'lora, kd or nf4'
    """
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


GRAMMAR = (
    "Method_2000, Method_unstructured_5000, Method_2of4, Method_remove_2, Method_label_2000 or Dense, and any of them "
    f"with {either(f'+{step}' for step in STEPS)}"
)


def resolve(name: str, options: Mapping[str, Any] | None = None) -> Variant:
    """Resolve a name and its options to a variant, with every default filled in.

    Raises:
        ConfigError: for a name outside the grammar, an unknown method, a mechanism that the method lacks, an
            impossible amount, or unknown or wrong options; all problems of the name at once.
    """
    own = dict(options or {})
    custom = _custom_method(own.pop("method"), name) if "method" in own else None
    parsed = _parse(name)
    method = parsed.method
    if not custom and method not in METHODS:
        raise ConfigError([f"unknown method '{method}'{nearest(method, METHODS)}"], name)
    implementation = custom or METHODS[method]
    try:
        cls = load_class(implementation)
    except ConfigError as error:
        raise ConfigError([f"method: {problem}" for problem in error.problems], name) from None
    mechanism = next((each for each in parsed.mechanisms if each.name in cls.mechanisms), None)
    if mechanism is None:
        asked = parsed.mechanisms[0].name
        raise ConfigError([f"{method} cannot prune by {asked}, only by {' or '.join(cls.mechanisms)}"], name)
    structure, amount, counted = _amount(mechanism, parsed.suffix, name)
    models = {"options": mechanism.Options, "method_options": cls.Options}
    given = {key: value for key, value in cls.defaults.items() if key in models["options"].model_fields}
    given |= own
    known = {key for model in models.values() for key in model.model_fields}
    problems = _counted(given, known, counted, mechanism, parsed.suffix)
    problems += [unknown_option(key, known, [mechanism]) for key in given if key not in known]
    resolved: dict[str, BaseModel] = {}
    for kind, model in models.items():
        values = {key: value for key, value in given.items() if key in model.model_fields}
        try:
            resolved[kind] = model(**values)
        except ValidationError as error:
            problems += problems_of(error, model, values)
    importance = None
    mechanism_options = resolved.get("options")
    if isinstance(mechanism_options, MechanismOptions):
        try:
            importance = _importance(mechanism_options, mechanism)
        except ConfigError as error:
            problems += error.problems
        problems += mechanism_options.problems_with(cls, structure)
    if problems:
        raise ConfigError(problems, name)
    method_options = resolved["method_options"].model_dump()
    scores = cls.scores_of or method
    return Variant(
        name=name,
        method=method,
        implementation=implementation,
        mechanism=mechanism.name,
        structure=structure,
        amount=amount,
        score=score_of(scores, mechanism, method_options, resolved["options"], custom)
        if mechanism.score_with
        else None,
        calibrated=cls(**method_options).calibrated,
        options=resolved["options"].model_dump(),
        method_options=method_options,
        importance=importance,
        parent=None if method == DENSE else DENSE,
    )


def derive(parent: Variant, step: str, options: Mapping[str, Any] | None = None) -> Variant:
    """The variant that a step makes from its parent, such as ``GQA_2000+lora`` from ``GQA_2000``.

    Raises:
        ConfigError: for an unknown step, a step that cannot follow the parent's last step, or unknown or wrong options.
    """
    name = f"{parent.name}+{step}"
    check_length(name)
    check_step(name, {known: step_class(implementation) for known, implementation in STEPS.items()})
    resolved = checked(step_class(STEPS[step]).Options, options or {}, name)
    return replace(
        parent,
        name=name,
        parent=parent.name,
        step=StepSpec(step, STEPS[step], resolved.model_dump(mode="json")),
        score=None,
        importance=None,
    )


def check_step(name: str, steps: Mapping[str, type[NamedStep]]) -> None:
    """Raise ConfigError unless the last step of a name is one of ``steps`` and can follow the one before it."""
    *earlier, step = name.split("+")[1:]
    if step not in steps:
        raise ConfigError([f"unknown step '+{step}'{nearest(step, steps)}"], name)
    if earlier and (last := earlier[-1]) in steps and steps[last].terminal:
        raise ConfigError([f"nothing can follow +{last}; put +{last} last"], name)


def checked(model: type[Checked], options: Mapping[str, Any], name: str) -> Checked:
    """Validate options with a model that refuses unknown keys.

    Args:
        name: owner of the options, for messages.

    Raises:
        ConfigError: with every unknown or wrong option.
    """
    known = model.model_fields
    problems = [f"{key}: unknown option{nearest(key, known)}" for key in options if key not in known]
    values = {key: value for key, value in options.items() if key in known}
    try:
        resolved = model(**values)
    except ValidationError as error:
        problems += problems_of(error, model, values)
    if problems:
        raise ConfigError(problems, name)
    return resolved


def score_of(
    method: str,
    mechanism: Mechanism,
    options: Mapping[str, Any],
    mechanism_options: BaseModel | None = None,
    implementation: str | None = None,
) -> ScoreSpec:
    """The request for a method's scores with these options; ``implementation`` names an unregistered method."""
    implementation = implementation or METHODS[method]
    cls = load_class(implementation)
    pruner = cls(**options)
    job = mechanism.measure_with if issubclass(cls, LayerMeasure) else mechanism.score_with
    assert job
    resolved = pruner.options.model_dump()
    defaults = pruner.Options().model_dump()
    model = mechanism.Options
    scored, usual = (
        {key: getattr(own, key) for key in model.scored} for own in (mechanism_options or model(), model())
    )
    name = score_name(method, defaults | usual, resolved | scored)
    return ScoreSpec(name, implementation, mechanism.name, resolved, pruner.calibrated, job, scored)


def _counted(
    given: dict[str, Any], known: set[str], counted: str | None, mechanism: Mechanism, suffix: str
) -> list[str]:
    """Check the option ``of`` against the form of the amount, and add to ``given`` the quantity of this form."""
    if "of" not in known:
        unit, asked = mechanism.unit({}), given.pop("of", None)
        wrong = asked is not None and asked != unit
        return [f"of: an amount by {mechanism.name} always counts {unit or 'nothing'}; leave 'of' out"] if wrong else []
    written = get_args(mechanism.Options.model_fields["of"].annotation)
    if counted and given.setdefault("of", counted) != counted and shown(given["of"]) in map(shown, written):
        ways = either(f"Method{example}" for example in mechanism.examples)
        return [f"of: an amount written _{suffix} counts {counted}, not {given['of']}; write {ways}"]
    return []


def _importance(options: MechanismOptions, mechanism: Mechanism) -> ScoreSpec | None:
    """The request for layer scores in the options: for a method that ranks layers, or an allocation's measure."""
    if (ranking := options.ranking) is None:
        return None
    if ranking.implementation:
        return score_of(ranking.method, mechanism, ranking.options, implementation=ranking.implementation)
    ranks = {each.name: each for each in all_mechanisms() if each.ranks_layers and each.score_with}
    rankers = {
        method: ranks[name]
        for method, implementation in METHODS.items()
        for name in load_class(implementation).mechanisms
        if name in ranks
    }
    if ranking.method not in rankers:
        hint = nearest(ranking.method, rankers)
        raise ConfigError([f"importance: '{ranking.method}' scores no layers{hint} (these do: {', '.join(rankers)})"])
    return score_of(ranking.method, rankers[ranking.method], ranking.options)


def unknown_option(key: str, known: Iterable[str], mechanisms: Iterable[Mechanism]) -> str:
    """The message about an unknown option: the place to write the option instead, or the nearest known option."""
    asked = list(mechanisms)
    for mechanism in asked:
        if place := mechanism.Options.elsewhere(key):
            return f"{key}: {place}"
    if key == "allocation":
        sharing = either(each.name for each in all_mechanisms() if key in each.Options.model_fields)
        return f"{key}: has no meaning for {either(each.name for each in asked)}, only for {sharing}"
    return f"{key}: unknown option{nearest(key, known)}"


def shared_options(method: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Options for all variants of a method that some variant understands, and the problems of all others."""
    cls = load_class(METHODS[method])
    mechanisms = [get_mechanism(name) for name in cls.mechanisms]
    known = {key for model in [cls.Options, *(each.Options for each in mechanisms)] for key in model.model_fields}
    problems = [unknown_option(key, known, mechanisms) for key in options if key not in known]
    return {key: value for key, value in options.items() if key in known}, problems


def understood(name: str, shared: Mapping[str, Any]) -> dict[str, Any]:
    """Options for all variants of a method that have a meaning for this variant, or for none of the variants."""
    try:
        bare = resolve(name)
    except ConfigError:
        return {}
    mechanism = get_mechanism(bare.mechanism)
    others = [get_mechanism(each) for each in load_class(bare.implementation).mechanisms]

    def fits(key: str, value: Any) -> bool:
        if key not in mechanism.Options.model_fields or mechanism.Options.understands(key, value, bare.structure):
            return True
        return not any(
            other.Options.understands(key, value, structure) for other in others for structure in other.structures
        )

    known = bare.options.keys() | bare.method_options.keys()
    return {key: value for key, value in shared.items() if key in known and fits(key, value)}


def score_name(method: str, defaults: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """The name of a method's scores: the method and the options that differ from their defaults.

    >>> score_name("GQA", {"samples": None}, {"samples": 16})
    'GQA-samples=16'
    """
    changed = [f"{key}={value}" for key, value in sorted(options.items()) if value != defaults[key]]
    return "-".join([method, *changed])


class _Parsed(NamedTuple):
    """A name taken apart."""

    method: str
    suffix: str
    mechanisms: list[Mechanism]
    """Mechanisms that write amounts in this form; a method has at most one of them."""


def _custom_method(written: Any, name: str) -> str:
    """``module:Class`` of a method that is not registered."""
    if isinstance(written, str) and is_class_name(written):
        return written
    raise ConfigError(
        [f"method: {shown(written)} is not a class, which is written my_package.my_module:MyPruner"], name
    )


def check_length(name: str) -> None:
    """Raise ConfigError if the name of a variant or of a classifier's row is too long for folders and files."""
    if len(name) > LONGEST_NAME:
        raise ConfigError([f"a name of {len(name):,} characters; at most {LONGEST_NAME} fit a folder's name"], name)


def _parse(name: str) -> _Parsed:
    """Split a name into its parts. A label between the method and the amount is dropped."""
    check_length(name)
    mechanisms = all_mechanisms()
    if name == DENSE:
        method, suffix = DENSE, ""
    else:
        reserved = "".join(f"(?!{word}_)" for mechanism in mechanisms for word in mechanism.reserved)
        suffixes = "|".join(mechanism.suffix for mechanism in mechanisms if mechanism.suffix)
        pattern = rf"([A-Za-z][A-Za-z0-9]*)(?:_{reserved}[A-Za-z][A-Za-z0-9-]*)?_({suffixes})"
        match = re.fullmatch(pattern, name)
        if not match:
            raise ConfigError([f"not a variant name; write {GRAMMAR}"], name)
        method, suffix = match.groups()
    return _Parsed(method, suffix, [each for each in mechanisms if re.fullmatch(each.suffix, suffix)])


def _amount(mechanism: Mechanism, suffix: str, name: str) -> Amount:
    try:
        return mechanism.read(suffix)
    except ConfigError as error:
        raise ConfigError(error.problems, name) from None

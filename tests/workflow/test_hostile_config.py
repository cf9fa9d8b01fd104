"""Every key with every wrong type and extreme: one error that names the key as it was written, and nothing is made."""

from __future__ import annotations

import json
import math
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from llm_pruner.encoders.options import QATOptions, QuantizationOptions, RowOptions
from llm_pruner.mechanisms import get_mechanism
from llm_pruner.methods import METHODS
from llm_pruner.steps import STEPS
from llm_pruner.steps.base import step_class
from llm_pruner.system.errors import ConfigError, problems_of, shown
from llm_pruner.system.options import ENTRIES
from llm_pruner.variants.grammar import LONGEST_NAME, derive, resolve
from llm_pruner.variants.variant import load_class
from llm_pruner.workflow.config import Config, load_config
from llm_pruner.workflow.preflight import preflight

NEVER: dict[str, Any] = {
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "-1": -1,
    "huge": 10**30,
    "long": "a" * 5000,
    "list of lists": [[1]],
    "deep list": [[[[[]]]]],
    "mapping": {"a": {"b": 1}},
    "number as key": {1: 2},
}
"""No key takes any of these."""
SOMETIMES: dict[str, Any] = {
    "0": 0,
    "null": None,
    "true": True,
    "1.5": 1.5,
    "text": "x",
    "no text": "",
    "no entries": [],
    "text list": ["x"],
}
"""Some keys take some of these, as the schema says."""
WRONG = {**NEVER, **SOMETIMES}
BASE: dict[str, Any] = {"model": {"source": "builtin"}, "variants": ["Dense"]}
INNER = re.compile(r"pydantic|Traceback|\[key\]|constrained|nullable|dict\[|tuple\[|literal\[|dictionary|tuple")


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from models(part)


def key_paths(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        yield (*path, name)
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from key_paths(part, (*path, name))


CLASSES = {each.__name__ for each in models(Config)}


@contextmanager
def within_a_second() -> Iterator[None]:
    """Of this process's own time, however busy the machine is."""

    def end(*_: Any) -> None:
        raise AssertionError("takes more than a second")

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@pytest.fixture(autouse=True)
def nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    yield
    assert not list((tmp_path / "run").iterdir())


def problem(raw: Any) -> str | None:
    """The one problem of a configuration; None if it has none."""
    with within_a_second():
        try:
            config, variants = load_config(raw, "my.yaml")
            preflight(config, variants.values(), "my.yaml")
        except ConfigError as error:
            assert str(error).startswith("my.yaml: 1 problem\n"), error
            assert len(str(error)) < 1000
            found = error.problems[0]
            assert not INNER.search(found) and not any(re.search(rf"\b{name}\b", found) for name in CLASSES), found
            return found
    return None


def with_value(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    raw = json.loads(json.dumps(BASE))
    section = raw
    for key in path[:-1]:
        section = section.setdefault(key, {})
    section[path[-1]] = value
    return raw


@cache
def schema() -> Draft202012Validator:
    return Draft202012Validator(Config.model_json_schema())


@pytest.mark.parametrize("path", list(key_paths(Config)), ids=".".join)
def test_every_key_refuses_every_wrong_value(path: tuple[str, ...]) -> None:
    for kind, value in WRONG.items():
        raw = with_value(path, value)
        found = problem(raw)
        if found is None:
            assert kind not in NEVER, kind
            assert schema().is_valid(raw), kind
        elif found.startswith(f"{'.'.join(path[:-1])}: "):
            assert path[-1] in found and kind == "0", (kind, found)  # contradicts another key
        else:
            assert re.match(rf"{re.escape('.'.join(path))}(\.\w+|\[0\])*: ", found), (kind, found)


def owners() -> dict[str, tuple[str, type[BaseModel]]]:
    """A variant's name for every model of options, by the model's owner."""
    ends = {"width": "_2000", "depth": "_remove_1", "sparse": "_unstructured_5000", "slice": "_2000"}
    found: dict[str, tuple[str, type[BaseModel]]] = {}
    for method, implementation in METHODS.items():
        cls = load_class(implementation)
        for mechanism in cls.mechanisms:
            if mechanism in ends:
                found[method] = (method + ends[mechanism], cls.Options)
                found.setdefault(mechanism, (method + ends[mechanism], get_mechanism(mechanism).Options))
    return {owner: (name, model) for owner, (name, model) in found.items() if model.model_fields}


@pytest.mark.parametrize("owner", owners())
def test_every_option_of_every_method_refuses_every_wrong_value(owner: str) -> None:
    name, model = owners()[owner]
    for option in model.model_fields:
        for kind, value in NEVER.items():
            with pytest.raises(ConfigError) as caught, within_a_second():
                resolve(name, {option: value})
            assert len(caught.value.problems) == 1, caught.value
            told = caught.value.problems[0]
            assert option in told.partition(": ")[0] or f"{option};" in told, (kind, told)
            assert not INNER.search(told) and len(told) < 500


@pytest.mark.parametrize("option", ["allocation", "repair", "refine"])
def test_every_option_of_every_choice_refuses_every_wrong_value(option: str) -> None:
    mechanism = get_mechanism("sparse").Options
    choices = mechanism.chosen[option]
    for entry, cls in choices.fitting("sparse").items():
        for key in cls.Options.model_fields:
            for kind, value in NEVER.items():
                with pytest.raises(ConfigError) as caught, within_a_second():
                    resolve("Wanda_unstructured_5000", {option: {entry: {key: value}}})
                told = caught.value.problems[0]
                assert told.startswith(f"{option}: {entry}.{key}"), (kind, told)
                assert len(caught.value.problems) == 1 and not INNER.search(told) and ";" not in told, told


@pytest.mark.parametrize("step", STEPS)
def test_every_option_of_every_step_refuses_every_wrong_value(step: str) -> None:
    parent = resolve("Wanda_2of4")
    for option in step_class(STEPS[step]).Options.model_fields:
        for kind, value in NEVER.items():
            with pytest.raises(ConfigError) as caught, within_a_second():
                derive(parent, step, {option: value})
            [told] = caught.value.problems
            assert re.match(rf"{option}(\[0\])*: ", told) and not INNER.search(told), (kind, told)


@pytest.mark.parametrize(
    ("row", "model"), [("R", RowOptions), ("R+nf4", QuantizationOptions), ("R+qkd", QATOptions)], ids=str
)
def test_every_option_of_every_row_refuses_every_wrong_value(row: str, model: type[BaseModel]) -> None:
    for option in model.model_fields:
        for kind, value in NEVER.items():
            found = problem({**BASE, "encoders": {"rows": {"R": {}, row: {option: value}}}})
            assert found and found.startswith(f"encoders.rows.{row}: {option}"), (kind, found)


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
def test_entries_and_keys_of_every_wrong_type(value: Any) -> None:
    """Where a name or a section of names is expected."""
    key = value if isinstance(value, int | float | str | None) else "x"
    whole = {
        "variants[0]": {**BASE, "variants": [value]},
        "methods": {**BASE, "methods": {key: {}}},
        "encoders.rows": {**BASE, "encoders": {"rows": {key: {}}}},
        "variants[0] ": {**BASE, "variants": [{key: {}}]},
        "variants[0]  ": {**BASE, "variants": [{"GQA_2000": {key: 1}}]},
        "methods.GQA": {**BASE, "methods": {"GQA": {key: 1}}},
        "variants[0]   ": {**BASE, "variants": [{"Dense": value}]},
        "methods.GQA ": {**BASE, "methods": {"GQA": value}},
        shown(key).strip("'")[:20]: {**BASE, key: {}},
    }
    legal = {"encoders.rows": ("long", "text"), "variants[0]   ": ("null",)}
    for place, raw in whole.items():
        found = problem(raw)
        if found is None:
            assert value in [WRONG[kind] for kind in legal.get(place, ())] or (place == "encoders.rows" and key == "x")
        else:
            assert found.startswith(place.strip()), (place, found)
    for raw in (value, [value]) if not isinstance(value, Mapping) else ():
        with pytest.raises(ConfigError, match="Input should be keys and values, not "):
            load_config(raw, "my.yaml")


HOSTILE_NAMES = {
    "digits": "ShortGPT_remove_" + "9" * 5000,
    "digits of a pattern": f"Wanda_{'1' * 5000}of{'2' * 5001}",
    "numbers of a pattern": "Wanda_99999999999of999999999999",
    "label": f"GQA_{'l' * 300}_2000",
    "method": "M" * 300 + "_2000",
    "step": "GQA_2000+" + "x" * 5000,
    "steps": "GQA_2000" + "+lora" * 1000,
    "dots": "." * 5000,
    "a line": "GQA_2000\n",
    "nothing": "",
}


@pytest.mark.parametrize("name", HOSTILE_NAMES.values(), ids=HOSTILE_NAMES)
def test_hostile_names(name: str) -> None:
    found = problem({**BASE, "variants": [name]})
    assert found and found.startswith("variants[0]: '")
    if len(name) > LONGEST_NAME or not name[:1].isalpha():
        row = problem({**BASE, "encoders": {"rows": {name: {}}}})
        assert row and row.startswith("encoders.rows")


def test_names_that_just_fit() -> None:
    name = f"GQA_{'l' * (LONGEST_NAME - len('GQA__2000'))}_2000"
    assert problem({**BASE, "variants": [name]}) is None
    longer = problem({**BASE, "variants": [f"{name}+nf4"]})
    assert longer and f"a name of {LONGEST_NAME + 4} characters; at most {LONGEST_NAME} fit" in longer


CLASS_NAMES = [5, ".x:Y", "..:y", "x:", ":Y", "x", "a b:C", "no_such:Thing"]


@pytest.mark.parametrize("method", [*WRONG.values(), *CLASS_NAMES], ids=lambda method: shown(method)[:20])
def test_classes_that_are_none(method: Any) -> None:
    found = problem({**BASE, "variants": [{"Mine_2000": {"method": method}}]})
    assert found and found.startswith("variants[0]: 'Mine_2000': method: ")


@pytest.mark.parametrize("raised", ["SyntaxError", "ZeroDivisionError"])
def test_a_class_whose_module_cannot_be_imported(raised: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"broken_{raised}.py").write_text("def" if raised == "SyntaxError" else "1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    found = problem({**BASE, "variants": [{"Mine_2000": {"method": f"broken_{raised}:Mine"}}]})
    assert found and f"'broken_{raised}' cannot be imported ({raised}: " in found


PATHS = ["~nosuchuser", "~nosuchuser/x", "a" * 4000, "a/" + "b" * 4000, "a\0b", "/dev/null", "a/b/c", "../x", "a b/c"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: repr(path)[:20])
def test_paths_that_are_none(path: str) -> None:
    keys = ["model.source", "calibration.source", "perplexity.source", "healing.source", "encoders.task.dataset"]
    keys += ["encoders.task.test", "encoders.task.validation", "encoders.teacher.source"]
    for key in keys:
        raw = with_value(tuple(key.split(".")), path)
        raw.setdefault("encoders", {})["rows"] = {"R": {}}
        found = problem(raw)
        section = "encoders.task" if key.startswith("encoders.task") else key
        assert found and found.startswith(f"{section}: "), found


@pytest.mark.parametrize("file", ["none.gguf", "~nosuchuser", "a" * 4000, "a\0b", "."], ids=lambda file: repr(file)[:9])
def test_gguf_files_that_are_none(file: str, tmp_path: Path) -> None:
    for source in (str(tmp_path), "builtin"):
        found = problem({**BASE, "model": {"source": source, "gguf_file": file}})
        assert found and found.startswith("model.gguf_file: ")


@pytest.mark.parametrize("device", ["quantum", "cuda:x", "cuda:-1", "cuda:1000", "CPU", "cpu:1", "mps:7", "xpu", ""])
def test_devices_that_are_none(device: str) -> None:
    found = problem({**BASE, "model": {"source": "builtin", "device": device}})
    assert found == f"model.device: no device '{device}'; write auto, cpu, cuda, cuda:1 or mps"


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:15", "mps"])
def test_devices(device: str) -> None:
    assert problem({**BASE, "model": {"source": "builtin", "device": device}}) is None


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("encoders.seeds", [0, 0], "0 is listed twice; the same seed gives the same result"),
        ("calibration.seeds", [1, 1], "1 is listed twice; the same samples give the same result"),
        ("efficiency.batch_sizes", [4, 1, 4], "4 is listed twice; each is measured once"),
        ("zero_shot.tasks", ["piqa", "piqa"], "piqa is listed twice; each task counts once in the mean"),
        ("encoders.seeds", list(range(ENTRIES + 1)), f"Input should have at most {ENTRIES} entries"),
        ("encoders.seeds", [2**32], "Input should be less than 4294967296, not 4294967296"),
        ("model.builtin.num_hidden_layers", 10**7, "Input should be less than or equal to 1000, not 10000000"),
    ],
)
def test_what_multiplies_is_bounded(path: str, value: Any, message: str) -> None:
    found = problem(with_value(tuple(path.split(".")), value))
    assert found and found.startswith(path) and message in found


def test_sizes_that_multiply_to_too_much_are_refused_at_once() -> None:
    sizes = {"hidden_size": 65_536, "num_hidden_layers": 1000, "intermediate_size": 65_536}
    found = problem({**BASE, "model": {"source": "builtin", "builtin": sizes}})
    weights = 2048 * 65_536 + 1000 * 65_536 * (2 * (8 + 4) * 16 + 3 * 65_536)
    assert found == f"model.builtin: these sizes make {weights:,} weights, more than 1,000,000,000; choose smaller ones"
    teacher = {"builtin": {"hidden_size": 65_536, "layers": 1000}}
    found = problem({**BASE, "encoders": {"teacher": teacher}})
    assert found and found.startswith("encoders.teacher.builtin: these sizes make ")


def backwards(value: Any) -> Any:
    """The same keys in the opposite order."""
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return [backwards(each) for each in value] if isinstance(value, list) else value


def test_the_order_of_keys_decides_nothing() -> None:
    """Neither of sections nor of options: what jobs are given is the same to the byte."""
    raw = {
        "model": {"source": "builtin", "builtin": {"steps": 3, "hidden_size": 64, "vocab_size": 512}},
        "calibration": {"samples": 4, "length": 16},
        "steps": {"lora": {"steps": 7, "rank": 4}, "nf4": {"double_quant": True}},
        "methods": {"Wanda": {"samples": 2, "allocation": {"owl": {"threshold": 3, "spread": 0.1}}}},
        "encoders": {
            "rows": {"R": {"epochs": 1, "final_sparsity": 0.25}},
            "quantization": {"layer_bits": {0: 8, 2: 8, 1: 4}, "bits": 8},
        },
        "variants": [
            "Wanda_unstructured_5000",
            {"GQA_2000": {"samples": 2, "allocation": {"inverse": {"alpha": 2, "log": False}}, "min_rate": 0.01}},
            {"GQA_2000+lora": {"steps": 3, "rank": 2}},
        ],
    }

    def given(raw: dict[str, Any]) -> list[str]:
        config, variants = load_config(raw)
        row = config.encoders.row_options("R").model_dump()
        made = {name: variant.to_dict() for name, variant in variants.items()}
        sections = config.model_dump(exclude={"methods", "variants", "encoders"})
        return [json.dumps(each) for each in (sections, row, made)]

    assert given(raw) == given(backwards(raw))
    bits = [load_config(each)[0].encoders.quantization.model_dump() for each in (raw, backwards(raw))]
    assert json.dumps(bits[0]) == json.dumps(bits[1])


def test_values_in_messages_are_short_and_as_written() -> None:
    assert shown(10**5000) == "a number of about 5001 digits"
    bomb: Any = ["x"]
    for _ in range(60):
        bomb = [bomb, bomb]
    with within_a_second():
        assert len(shown(bomb)) < 100
    loop: list[Any] = []
    loop.append(loop)
    assert shown(loop) == "[[…]]"


def test_alternatives_of_a_type_are_one_problem() -> None:
    class Either(BaseModel):
        value: int | list[float]

    for given, told in {"x": "a whole number or a list, not 'x'", None: "a whole number or a list, not null"}.items():
        with pytest.raises(ValueError) as caught:
            Either(value=given)
        assert problems_of(caught.value, Either, {"value": given}) == [f"value: Input should be {told}"]
    with pytest.raises(ValueError) as caught:
        Either(value=[1, "x"])
    assert problems_of(caught.value, Either, {"value": [1, "x"]}) == ["value[1]: Input should be a number, not 'x'"]

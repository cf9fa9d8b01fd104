"""Configurations and names: what is accepted, and every problem in its place, all at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_pruner.system.errors import ConfigError
from llm_pruner.variants.grammar import resolve
from llm_pruner.variants.variant import Variant
from llm_pruner.workflow.config import REAL_TASKS, Config, load_config
from llm_pruner.workflow.preflight import preflight
from tests.tiny import ROOT


def problems(raw: dict[str, Any], with_model: bool = False) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config, variants = load_config(raw, "my.yaml")
        if with_model:
            preflight(config, variants.values(), "my.yaml")
    assert str(caught.value).startswith(f"my.yaml: {len(caught.value.problems)} problem")
    return caught.value.problems


@pytest.mark.parametrize(
    ("name", "method", "mechanism", "structure", "amount"),
    [
        ("Dense", "Dense", "dense", "dense", 0.0),
        ("Magnitude_2000", "Magnitude", "width", "width", 0.2),
        ("GQA_0125", "GQA", "width", "width", 0.0125),
        ("GQA_my-label_2000", "GQA", "width", "width", 0.2),
        ("Magnitude_unstructured_5000", "Magnitude", "sparse", "unstructured", 0.5),
        ("Wanda_first_unstructured_5000", "Wanda", "sparse", "unstructured", 0.5),
        ("Wanda_2of4", "Wanda", "sparse", "2:4", 0.5),
        ("ShortGPT_remove_2", "ShortGPT", "depth", "depth", 2),
        ("SliceGPT_2000", "SliceGPT", "slice", "slice", 0.2),
    ],
)
def test_names(name: str, method: str, mechanism: str, structure: str, amount: float) -> None:
    variant = resolve(name)
    assert (variant.method, variant.mechanism, variant.structure, variant.amount) == (
        method,
        mechanism,
        structure,
        amount,
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Magnitde_2000", "unknown method 'Magnitde'; did you mean 'Magnitude'?"),
        ("Magnitude", "not a variant name; write Method_2000"),
        ("Magnitude_20", "not a variant name"),
        ("Magnitude_20000", "not a variant name"),
        ("Magnitude_0000", "removes nothing; write Dense instead"),
        ("Magnitude_remove_2", "Magnitude cannot prune by depth, only by width or sparse"),
        ("ShortGPT_unstructured_5000", "ShortGPT cannot prune by sparse, only by depth"),
        ("ShortGPT_remove_0", "removes no layer"),
        ("Wanda_4of4", "needs 0 < N < M, not 4:4"),
    ],
)
def test_bad_names(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(name)
    assert message in caught.value.problems[0]


def test_scores_are_shared_by_amounts_and_split_by_options() -> None:
    scores = [
        resolve(name, options).score
        for name, options in [
            ("GQA_1000", {}),
            ("GQA_3000", {}),
            ("GQA_uniform_2000", {"uniform": True}),
            ("HGSP_2000", {}),
            ("LLMPruner_2000", {}),
        ]
    ]
    assert all(score == scores[0] for score in scores) and scores[0] and scores[0].name == "GQA"
    few = resolve("GQA_few_1000", {"samples": 8}).score
    assert few and few.name == "GQA-samples=8"
    assert resolve("Wanda_2of4").score is None


def test_default_config_is_valid_and_complete() -> None:
    config, variants = load_config(yaml.safe_load((ROOT / "config.yaml").read_text()))
    preflight(config, variants.values())
    asked = {"Dense", "Magnitude_2000", "Wanda_2000", "Random_2000", "HGSP_2000", "HGSP_refit_2000"}
    assert asked | {"Wanda_2of4", "SparseGPT_2of4", "ShortGPT_remove_4"} <= set(variants)
    assert config.model.kind == "package" and not config.needs_hub and not config.encoders.rows


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_ready_made_configs_are_valid(path: Path) -> None:
    config, variants = load_config(yaml.safe_load(path.read_text()), path.name)
    assert (config.tasks == REAL_TASKS) is (config.model.kind == "hub")
    preflight(config, variants.values(), path.name)


def test_everything_goes_on_where_the_default_ended() -> None:
    """In the same folder it makes no row anew: what both say is the same."""
    default, everything = (
        yaml.safe_load((ROOT / name).read_text()) for name in ("config.yaml", "configs/everything.yaml")
    )
    rows, more = ({str(row) for row in raw.pop("variants")} for raw in (default, everything))
    assert rows <= more
    shared = Config.model_validate({**everything, "variants": ["Dense"]}).model_dump()
    for section, own in Config.model_validate({**default, "variants": ["Dense"]}).model_dump().items():
        if section in ("model", "calibration", "perplexity", "zero_shot", "efficiency"):
            assert {**shared[section], "held_out": None} == {**own, "held_out": None}, section
        if section == "steps":
            assert shared[section]["nf4"] == own["nf4"]


def test_the_quick_look_is_small_and_needs_no_network() -> None:
    config, variants = load_config(yaml.safe_load((ROOT / "configs" / "quick.yaml").read_text()))
    assert config.model.kind == "builtin" and not config.needs_hub and not config.encoders.rows
    assert len(variants) <= 10


def test_dense_is_always_there_and_first() -> None:
    _, variants = load_config({"variants": ["Wanda_2of4", "Magnitude_2000"]})
    assert list(variants) == ["Dense", "Wanda_2of4", "Magnitude_2000"]


def test_options_of_a_method_reach_the_variants_that_understand_them() -> None:
    raw = {
        "methods": {"Wanda": {"samples": 16, "uniform": True}},
        "variants": ["Wanda_2000", "Wanda_2of4", {"Wanda_more_2000": {"samples": 32}}],
    }
    _, variants = load_config(raw)
    assert variants["Wanda_2000"].options["uniform"] and variants["Wanda_2000"].method_options == {"samples": 16}
    assert variants["Wanda_2of4"].method_options == {"samples": 16}
    assert variants["Wanda_2of4"].options == {"allocation": "uniform", "refine": "none", "repair": "none"}
    assert variants["Wanda_more_2000"].method_options == {"samples": 32}


def test_every_problem_at_once_each_with_its_place() -> None:
    found = problems(
        {
            "model": {"sorce": "builtin", "dtype": "float31", "builtin": {"step": 3}},
            "calibration": {"samples": 0, "split": "test"},
            "methods": {"Wandaa": {}, "GQA": {"sample": 3}},
            "variants": [
                "Magnitude_2000",
                "Magnitude_2000",
                {"Wanda_2000": {"split": "0:0"}},
                {"GQA_2000": {"unifrom": True, "samples": -1}},
                "Foo_10",
            ],
            "perplexty": {},
        }
    )
    expected = [
        "model.sorce: unknown key; did you mean 'source'?",
        "model.dtype: Input should be 'auto', 'float32', 'bfloat16' or 'float16', not 'float31'",
        "model.builtin.step: unknown key; did you mean 'steps'?",
        "calibration.samples: Input should be greater than 0, not 0",
        "perplexty: unknown key; did you mean 'perplexity'?",
        "methods.Wandaa: unknown method; did you mean 'Wanda'?",
        "methods.GQA.sample: unknown option; did you mean 'samples'?",
        "variants[1]: 'Magnitude_2000' is listed twice; give one a label, such as GQA_uniform_2000",
        "variants[2]: 'Wanda_2000': split: '0:0' is not a split; write the shares of attention and MLP",
        "variants[3]: 'GQA_2000': unifrom: unknown option; did you mean 'uniform'?",
        "variants[3]: 'GQA_2000': samples: Input should be greater than 0, not -1",
        "variants[4]: 'Foo_10': not a variant name; write Method_2000",
    ]
    for message in expected:
        assert any(problem.startswith(message) for problem in found), message
    assert len(found) == len(expected)


def test_what_is_healed_comes_after_what_it_is_made_from() -> None:
    raw = {
        "steps": {"lora": {"rank": 4, "steps": 7}},
        "variants": ["GQA_uniform_2000+lora", {"GQA_uniform_2000": {"uniform": True}}, {"GQA_3000+kd": {"rank": 2}}],
    }
    _, variants = load_config(raw)
    assert list(variants) == ["Dense", "GQA_uniform_2000", "GQA_uniform_2000+lora", "GQA_3000", "GQA_3000+kd"]
    healed = variants["GQA_uniform_2000+lora"]
    assert healed.options["uniform"] and (healed.parent, healed.root) == ("GQA_uniform_2000", "GQA_uniform_2000")
    assert healed.step and (healed.step.options["rank"], healed.step.options["steps"]) == (4, 7)
    assert variants["GQA_3000+kd"].step.options["rank"] == 2
    assert Variant.from_dict(json.loads(json.dumps(healed.to_dict()))) == healed
    assert not healed.scores and variants["GQA_3000"].scores


def test_problems_of_healing_and_allocation_are_said_once() -> None:
    found = problems(
        {
            "steps": {"lora": {"rnak": 4}, "kd": {"temperature": 0}},
            "variants": [
                "GQA_2000+lorra",
                {"GQA_3000+lora": {"targets": ["q_prj"]}},
                {"GQA_4000": {"unifrom": True}},
                "GQA_4000+lora",
                {"GQA_one_1000": {"allocation": "inverse", "importance": "Wanda"}},
                {"GQA_two_1000": {"uniform": True, "layer_range": "1:"}},
                {"GQA_three_1000": {"layer_range": "1-3"}},
            ],
        }
    )
    expected = [
        "steps.lora.rnak: unknown key; did you mean 'rank'?",
        "steps.kd.temperature: Input should be greater than 0, not 0",
        "variants[0]: 'GQA_2000+lorra': unknown step '+lorra'; did you mean 'lora'?",
        "variants[1]: 'GQA_3000+lora': targets: unknown linear layer 'q_prj'; did you mean 'q_proj'?",
        "variants[2]: 'GQA_4000': unifrom: unknown option; did you mean 'uniform'?",
        "variants[4]: 'GQA_one_1000': importance: 'Wanda' scores no layers",
        "variants[5]: 'GQA_two_1000': uniform gives all layers one shape and cannot be combined with layer_range",
        "variants[6]: 'GQA_three_1000': layer_range: '1-3' is not a range of layers; write first:end, such as 4:30",
    ]
    for message in expected:
        assert any(problem.startswith(message) for problem in found), (message, found)
    assert len(found) == len(expected)


def test_allocations_without_meaning_are_refused_by_place() -> None:
    found = problems(
        {
            "methods": {"GQA": {"allocation": "owl"}, "ShortGPT": {"allocation": "owl"}},
            "variants": [
                {"Wanda_owl_2of4": {"allocation": "owl"}},
                {"ShortGPT_remove_1": {"allocation": "owl"}},
                {"GQA_steep_2000": {"allocation": "global", "alpha": 2}},
                "GQA_3000",
                {"Wanda_unstructured_5000": {"allocation": "olw"}},
            ],
        }
    )
    expected = [
        "methods.ShortGPT.allocation: has no meaning for depth, only for width or sparse",
        "variants[0]: 'Wanda_owl_2of4': allocation: owl gives layers different ratios, but kernels need 2:4",
        "variants[1]: 'ShortGPT_remove_1': allocation: has no meaning for depth, only for width or sparse",
        "variants[2]: 'GQA_steep_2000': alpha: an option of the allocation inverse or proportional: allocation: {",
        "variants[3]: 'GQA_3000': allocation: 'owl' shares a budget of sparse, not of width; write uniform, inverse",
        "variants[4]: 'Wanda_unstructured_5000': allocation: unknown allocation 'olw'; did you mean 'owl'?",
    ]
    for message in expected:
        assert any(problem.startswith(message) for problem in found), (message, found)
    assert len(found) == len(expected)


def test_an_allocation_for_all_variants_of_a_method_reaches_those_it_has_a_meaning_for() -> None:
    names = ["Wanda_2000", "Wanda_2of4", "Wanda_unstructured_5000"]
    _, variants = load_config({"methods": {"Wanda": {"allocation": "owl", "samples": 4}}, "variants": names})
    width, pattern, free = (variants[name] for name in names)
    assert width.options["allocation"] == pattern.options["allocation"] == "uniform"
    assert list(free.options["allocation"]) == ["owl"]
    assert free.importance and free.importance.name == "Outliers" and free.importance.calibrated
    assert width.importance is pattern.importance is None


def test_steps_that_stood_elsewhere_are_answered_with_their_new_place() -> None:
    found = problems(
        {"healing": {"samples": 9, "lora": {"rank": 4}, "kd": {}}, "nf4": {"double_quant": True}, "variants": ["Dense"]}
    )
    assert sorted(found) == ["healing.kd: is steps.kd now", "healing.lora: is steps.lora now", "nf4: is steps.nf4 now"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            {"healing": {"split": "test"}, "variants": ["Dense+lora"]},
            "healing.source: builtin, split test is also the text for perplexity; train on another split",
        ),
        ({"calibration": {"split": "test"}}, "builtin, split test is also the text for perplexity"),
        (
            {"calibration": {"source": "wikitext2", "split": "test"}, "perplexity": {"source": "wikitext2"}},
            "is also the text",
        ),
        ({"calibration": {"source": "wikitext2", "split": "dev"}}, "wikitext2 has no split 'dev'; known: test, train"),
        ({"calibration": {"source": "c5"}}, "neither a file nor a known source; known: builtin, c4, ptb, wikitext2"),
        ({"perplexity": {"window": 64, "stride": 65}}, "perplexity.stride: 65 is longer than the window of 64"),
        ({"model": {"source": "./no/such/folder"}}, "model.source: no folder './no/such/folder'"),
        (
            {"model": {"source": "smolm2"}},
            "model.source: 'smolm2' is no known model, no folder, no GGUF file, and no id",
        ),
        ({"model": {"source": "smolm2"}}, "did you mean 'smollm2'?"),
        ({"model": {"source": "some/file.gguf"}}, "model.source: no GGUF file 'some/file.gguf'"),
        ({"model": {"gguf_file": "a.gguf"}}, "'smollm2' has no files to choose from; leave out gguf_file 'a.gguf'"),
        ({"model": {"revision": "main"}}, "model.revision: 'smollm2' has no revisions; only models on the hub have"),
        ({"variants": []}, "variants: "),
    ],
)
def test_contradictions(raw: dict[str, Any], message: str) -> None:
    found = problems({"variants": ["Dense"], **raw})
    assert len(found) == 1 and message in found[0]


def test_no_calibrating_on_the_evaluated_file(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("text")
    other_way_to_write_it = str(tmp_path / ".." / tmp_path.name / "text.txt")
    raw = {
        "calibration": {"source": str(tmp_path / "text.txt")},
        "perplexity": {"source": other_way_to_write_it},
        "variants": ["Dense"],
    }
    assert "is also the text for perplexity" in problems(raw)[0]


def test_what_the_model_cannot_give() -> None:
    variants = ["Magnitude_9000", "ShortGPT_remove_8", "Wanda_3of7", "Magnitude_2000"]
    raw = {"model": {"source": "builtin"}, "variants": variants, "perplexity": {"window": 1000}}
    found = problems(raw, with_model=True)
    assert len(found) == 4
    assert "Magnitude_9000: a ratio of 0.9000 removes" in found[0]
    assert "ShortGPT_remove_8: the model has 8 layers, at most 7 can be removed" in found[1]
    assert "Wanda_3of7: model.layers.0.self_attn.q_proj has 128 inputs, not a multiple of 7" in found[2]
    assert "perplexity.window: 1000 tokens, but the model's context is 512" in found[3]


def test_local_model_is_looked_at_before_any_job(make_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_model("mistral")
    assert (
        "has 4 layers"
        in problems(
            {
                "model": {"source": str(folder)},
                "variants": ["ShortGPT_remove_4"],
                "calibration": {"length": 32},
                "perplexity": {"window": 32},
                "efficiency": {"prompt_length": 8, "new_tokens": 8},
            },
            with_model=True,
        )[0]
    )
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}')
    found = problems({"model": {"source": str(tmp_path)}, "variants": ["Dense"]}, with_model=True)
    assert "model.source:" in found[0] and "'gpt2' (GPT2LMHeadModel) is not supported" in found[0]


@pytest.mark.parametrize(
    ("raw", "hub"),
    [
        ({}, False),
        ({"calibration": {"source": "c4"}}, True),
        ({"zero_shot": {"tasks": ["builtin_preposition"]}}, False),
        ({"zero_shot": {"tasks": ["builtin_preposition", "piqa"]}}, True),
        ({"model": {"source": "builtin"}}, False),
        ({"model": {"source": "Qwen/Qwen3-0.6B"}, "zero_shot": {"tasks": ["builtin_preposition"]}}, True),
    ],
)
def test_the_network_is_used_only_where_something_needs_it(raw: dict[str, Any], hub: bool) -> None:
    config, _ = load_config({"variants": ["Dense"], **raw})
    assert config.needs_hub is hub
    assert config.makes_tasks is ("piqa" not in config.tasks or "builtin_preposition" in config.tasks)

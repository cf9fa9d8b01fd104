"""Depth pruning as an object: what the methods do, at hand from Python, and a user's own in a few lines."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from llm_pruner.mechanisms.depth.prune import prune as prune_depth
from llm_pruner.mechanisms.depth.records import LayerScoresFile
from llm_pruner.mechanisms.depth.score import score as score_layers
from llm_pruner.mechanisms.job import Job
from llm_pruner.methods import METHODS
from llm_pruner.methods.base import CalibratedOptions
from llm_pruner.models.checkpoint import load
from llm_pruner.objects.pruners import (
    AblationPruner,
    AVSSPruner,
    BasePruner,
    PruneMePruner,
    SmartPruner,
    check_removable,
    checked_entries,
    pruner_method,
)
from llm_pruner.planning.plan import Plan
from llm_pruner.system.errors import CheckpointError, ConfigError, DataError, PlanError, PrunerError
from llm_pruner.system.files import read_json
from llm_pruner.system.provenance import Run
from llm_pruner.system.runtime import Runtime
from llm_pruner.variants.variant import ScoreSpec, Variant, load_class
from tests.tiny import ROOT
from tests.tiny.models import build_model

PRUNERS = {"Ablation": AblationPruner, "AVSS": AVSSPruner, "PruneMe": PruneMePruner, "Smart": SmartPruner}
SCORES = [{"index": index, "score": score} for index, score in enumerate([0.5, 0.1, 0.3, 0.2])]

OWN = '''
import torch

from llm_pruner.methods.base import CalibratedOptions
from llm_pruner.pruners import BasePruner, SmartPruner


class Options(CalibratedOptions):
    power: float = 1.0


class LastTokenPruner(BasePruner):
    """How far a layer moves the last token.

    The rest of the docstring.
    """

    Options = Options

    def compute_layer_scores(self, eval_data):
        scores = []
        for layer in self.stream(eval_data):
            moves = torch.cat([(after - before)[:, -1].norm(dim=-1) for before, after in layer.run()])
            score = moves.mean().item() ** self.options.power
            scores.append({"index": layer.index, "score": score, "samples": len(moves)})
        return scores


class FirstLayersPruner(BasePruner):
    def select_layers(self, scores, ratio=None, threshold=None, count=None):
        return list(scores)[:count]


class TooManyPruner(BasePruner):
    def select_layers(self, scores, ratio=None, threshold=None, count=None):
        return list(scores)[: count + 1]


class TwicePruner(BasePruner):
    def select_layers(self, scores, ratio=None, threshold=None, count=None):
        return [min(scores)] * count


class HalfPruner(BasePruner):
    def compute_layer_scores(self, eval_data):
        scores = super().compute_layer_scores(eval_data)
        return {layer: scores[layer] for layer in list(scores)[::2]}


class PlainPruner(SmartPruner):
    def compute_layer_scores(self, eval_data):
        return {layer: float(-layer) for layer in range(self.num_layers)}

    def select_layers(self, scores, ratio=0.2, threshold=None):
        lowest = sorted(scores, key=scores.get)
        return lowest[: int(len(scores) * ratio)]


class PatientPruner(SmartPruner):
    """Smart with a tolerance of its own."""


number = 3
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a user's module."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def variant(implementation: str, count: int, **options: Any) -> Variant:
    score = ScoreSpec("Own", implementation, "depth", options, True, "llm_pruner.mechanisms.depth.score")
    return Variant(f"Own_remove_{count}", "Own", implementation, "depth", "depth", count, score, True, {}, options)


def loss(model: Any, tokens: torch.Tensor, without: tuple[int, ...] = ()) -> float:
    """Mean next-token loss of a model whose layers pass on what they get."""
    for layer in without:
        model.model.layers[layer].forward = lambda hidden_states, **_: hidden_states
    with torch.no_grad():
        result = model(input_ids=tokens, labels=tokens, use_cache=False).loss.item()
    for layer in without:
        del model.model.layers[layer].forward
    return result


# scores and selection


@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("loaded", [True, False])
def test_scores_and_selection_are_those_of_the_method(
    name: str, loaded: bool, make_model: Callable[..., Path], tokens: torch.Tensor
) -> None:
    folder = make_model("qwen2")
    options = {"samples": 5, **({"steps": 2} if name == "Smart" else {})}
    pruner = PRUNERS[name](load(folder) if loaded else folder, device="cpu", batch_size=4, **options)
    method: Any = load_class(METHODS[name])(**options)
    scored = score_layers(method, folder, tokens[:5], Runtime("cpu", 4))
    expected = [entry.to_dict() for entry in scored.layers]
    scores = pruner.compute_layer_scores(tokens)
    assert list(scores.values()) == pytest.approx([entry["score"] for entry in expected], rel=1e-5)
    assert pruner.select_layers(scores, count=2) == sorted(method.select(expected, 2))
    assert pruner.description() == f"{name}: {method.title}" + f" ({method.paper})" * bool(method.paper)


@pytest.mark.parametrize(
    ("amount", "selected"),
    [
        ({"count": 1}, [1]),
        ({"count": 3}, [1, 2, 3]),
        ({"ratio": 0.5}, [1, 3]),
        ({"ratio": 0.74}, [1, 3]),  # rounded down
        ({"ratio": 0.01}, [1]),  # but at least one
        ({"threshold": 0.3}, [1, 3]),  # below, not at
        ({"threshold": 0.1}, []),
    ],
)
def test_how_many_layers_are_selected(amount: dict[str, Any], selected: list[int], make_model: Any) -> None:
    assert BasePruner(make_model("llama"), device="cpu").select_layers(SCORES, **amount) == selected


def test_a_ratio_is_rounded_down_but_not_by_the_error_of_floats() -> None:
    scores = [{"index": index, "score": float(index)} for index in range(100)]
    for percent in range(1, 100):
        assert BasePruner(None, device="cpu").select_layers(scores, ratio=percent / 100) == list(range(percent))


@pytest.mark.parametrize(
    ("amount", "message"),
    [
        ({"ratio": 0.5, "count": 1}, "at most one of ratio, threshold and count"),
        ({"ratio": 1.0}, "between 0 and 1, not 1"),
        ({"ratio": 0.0}, "between 0 and 1, not 0"),
        ({"count": 0}, "count must be 1 … 3 of 4 scored layers, not 0"),
        ({"count": 4}, "count must be 1 … 3 of 4 scored layers, not 4"),
        ({"threshold": 1.0}, "all 4 layers score below 1, but one must stay"),
    ],
)
def test_amounts_that_cannot_be_selected(amount: dict[str, Any], message: str, make_model: Any) -> None:
    with pytest.raises(PlanError, match=message):
        BasePruner(make_model("llama"), device="cpu").select_layers(SCORES, **amount)


def test_all_of_the_layers_that_may_go_can_be_selected(make_model: Callable[..., Path]) -> None:
    for model in (None, make_model("llama")):
        assert BasePruner(model, device="cpu").select_layers(SCORES[1:3], count=2) == [1, 2]


def test_texts_and_items_are_cut_into_samples(make_model: Callable[..., Path]) -> None:
    class Letters:
        def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
            return {"input_ids": [3 + ord(letter) % 90 for letter in text]}

    pruner = BasePruner(make_model("llama"), Letters(), device="cpu", seq_len=10)
    item = {"question": "Who?", "answer": "Me"}
    text = "Question: Who?\nAnswer: Me"
    expected = torch.tensor([3 + ord(letter) % 90 for letter in text][:20]).view(2, 10)
    for data in ([item], [text], text):
        assert torch.equal(pruner.ids(data), expected)
    usual = BasePruner(make_model("llama"), Letters(), device="cpu")
    assert usual.ids(text).shape == (2, len(text) // 2)  # two samples, however short the text
    assert usual.ids(text * 100).shape[1] == 64  # and none longer than the context
    assert len(pruner.compute_layer_scores([item])) == 4
    few = BasePruner(make_model("llama"), Letters(), device="cpu", seq_len=10, samples=1)
    assert torch.equal(few.ids(text), expected[:1])


def test_what_a_pruner_cannot_be_made_or_asked(make_model: Callable[..., Path], tokens: torch.Tensor) -> None:
    folder = make_model("llama")
    with pytest.raises(ConfigError, match="sample"):
        BasePruner(folder, device="cpu", sample=3)
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        BasePruner("nowhere", device="cpu")
    with pytest.raises(DataError, match="need a tokenizer"):
        BasePruner(load(folder), device="cpu").compute_layer_scores(["text"])
    with pytest.raises(CheckpointError, match="no usable tokenizer"):
        BasePruner(folder, device="cpu").compute_layer_scores(["text"])
    with pytest.raises(DataError, match="do not fit a vocabulary"):
        BasePruner(folder, device="cpu").compute_layer_scores(tokens + 97)
    with pytest.raises(PrunerError, match="only select layers from scores"):
        BasePruner(None, device="cpu").compute_layer_scores(tokens)


# saving


def test_saved_model_is_the_base_without_the_layers(
    make_model: Callable[..., Path], tokens: torch.Tensor, tmp_path: Path
) -> None:
    base = make_model("mistral")
    pruned, plan = AblationPruner(base, device="cpu").prune_and_save([2, 0], tmp_path / "out", "someone/model")
    assert plan.removed_layers == (0, 2) and Plan.read(tmp_path / "out" / "plan.json") == plan
    for model in (pruned, load(tmp_path / "out")):
        assert loss(model, tokens) == pytest.approx(loss(load(base), tokens, (0, 2)), rel=1e-5)
    merge = yaml.safe_load((tmp_path / "out" / "mergekit.yaml").read_text())
    ranges = [source["layer_range"] for part in merge["slices"] for source in part["sources"]]
    assert ranges == [[1, 2], [3, 4]] and merge["dtype"] == "float32"
    assert merge["slices"][0]["sources"][0]["model"] == "someone/model"


def test_mergekit_yaml_of_a_loaded_model(make_model: Callable[..., Path], tmp_path: Path) -> None:
    pruner = BasePruner(load(make_model("llama"), dtype="bfloat16"), device="cpu")
    pruner.export_mergekit_yaml([1], tmp_path / "merge.yaml")
    merge = yaml.safe_load((tmp_path / "merge.yaml").read_text())
    assert merge["slices"][0]["sources"][0] == {"model": str(make_model("llama")), "layer_range": [0, 1]}
    assert merge["dtype"] == "bfloat16"
    with pytest.raises(PrunerError, match="give model_id"):
        BasePruner(build_model("llama"), device="cpu").export_mergekit_yaml([1], tmp_path / "merge.yaml")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "at least one"),
        ([1, 1], "distinct"),
        ([4], r"layers \[4\] are not removable"),
        ([-1], r"layers \[-1\] are not removable"),
        ([0, 1, 2, 3], "all 4 layers are to be removed"),
    ],
)
def test_layers_that_cannot_be_removed(
    layers: list[int], message: str, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match=message):
        BasePruner(make_model("llama"), device="cpu").prune_and_save(layers, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# the selection that is tried


@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize("candidates", [[3, 1, 0, 2], [2, 0], [1]])
def test_optimised_selection_is_what_trying_gives(
    candidates: list[int], loaded: bool, make_model: Callable[..., Path], tokens: torch.Tensor
) -> None:
    folder = make_model("qwen2")
    model = load(folder)
    # perplexities of all reduced models, by brute force
    known = {
        without: math.exp(loss(model, tokens, without))
        for count in range(4)
        for without in itertools.combinations(range(4), count)
    }
    pruner = SmartPruner(load(folder) if loaded else folder, device="cpu", batch_size=4)
    seen = set()
    for tolerance in (0.0, 0.02, 0.1, 0.3, 10.0):
        removed: list[int] = []
        for candidate in candidates:
            trial = tuple(sorted([*removed, candidate]))
            if len(trial) < 4 and known[trial] <= known[tuple(sorted(removed))] * (1 + tolerance):
                removed.append(candidate)
        assert pruner.optimize_selection(candidates, tokens, tolerance) == removed
        seen.add(tuple(removed))
    if len(candidates) > 1:
        assert len(seen) > 1  # tolerance decides something
    with pytest.raises(PlanError, match="not removable"):
        pruner.optimize_selection([7], tokens)


# a user's own


def test_own_pruner_from_python(
    own: str, make_model: Callable[..., Path], tokens: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruner_class = __import__(own).LastTokenPruner
    base = make_model("llama")
    pruner = pruner_class(base, device="cpu", power=2.0)
    assert pruner.description() == "LastTokenPruner: How far a layer moves the last token"
    entries = pruner.compute_layer_scores(tokens)
    with torch.no_grad():
        states: list[tuple[torch.Tensor, torch.Tensor]] = []
        model = load(base)
        for layer in model.model.layers:
            layer.register_forward_hook(lambda _m, given, output: states.append((given[0], output)))
        model(input_ids=tokens, use_cache=False)
    expected = [(after - before)[:, -1].norm(dim=-1).mean().item() ** 2 for before, after in states]
    assert [entry["score"] for entry in entries] == pytest.approx(expected, rel=1e-4)
    lowest = sorted(range(4), key=expected.__getitem__)[:2]
    _, plan = pruner.prune_and_save(pruner.select_layers(entries, ratio=0.5), tmp_path / "out")
    assert plan.removed_layers == tuple(sorted(lowest))


def test_own_pruner_as_a_method(
    own: str, make_model: Callable[..., Path], tokens: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workflow's score and prune run it, in one pass that is counted."""
    implementation = f"{own}:LastTokenPruner"
    base = make_model("llama")
    method_class = pruner_method(implementation)
    assert (method_class.name, method_class.mechanisms) == ("LastTokenPruner", ("depth",))
    assert method_class.title == "How far a layer moves the last token" and method_class.paper == ""
    assert method_class().calibrated and method_class(samples=2).first_samples(tokens).shape[0] == 2
    method = method_class(power=2.0)
    scored = score_layers(method, base, tokens, Runtime("cpu", 4))
    pruner = __import__(own).LastTokenPruner(base, device="cpu", batch_size=4, power=2.0)
    entries = [entry.to_dict() for entry in scored.layers]
    assert entries == pruner.compute_layer_scores(tokens)  # with the key it adds
    assert scored.evaluations is not None and scored.evaluations.run == 4

    monkeypatch.setattr(Variant, "build_method", lambda self: pruner_method(self.implementation)(**self.method_options))
    own_variant = variant(implementation, 2, power=2.0)
    written = LayerScoresFile(
        id="own",
        method="own",
        mechanism="depth",
        options={},
        layers=scored.layers,
        layer_evaluations=scored.evaluations,
        run=Run({}).describe(),
    )
    job = Job(
        own_variant,
        base,
        tmp_path / "model",
        written,
        None,
        None,
        tokens,
        Runtime("cpu", 4),
    )
    outcome = prune_depth(job)
    assert outcome.plan is not None and outcome.reached == 2
    assert outcome.plan.removed_layers == tuple(pruner.select_layers(entries, count=2))
    assert read_json(tmp_path / "model" / "config.json")["num_hidden_layers"] == 2


def test_own_selection_and_inherited_scores_as_a_method(
    own: str, make_model: Callable[..., Path], tokens: torch.Tensor
) -> None:
    base = make_model("llama")
    method = pruner_method(f"{own}:FirstLayersPruner")()
    scored = score_layers(method, base, tokens, Runtime("cpu", 4))
    shortgpt: Any = load_class(METHODS["ShortGPT"])()
    assert scored.layers == score_layers(shortgpt, base, tokens, Runtime("cpu", 4)).layers
    entries = [entry.to_dict() for entry in scored.layers]
    assert method.layer_scores(BasePruner(base, device="cpu").stream(tokens)) == pytest.approx(
        [entry["score"] for entry in entries]
    )
    assert method.select(entries[1:], 2) == [1, 2]
    assert pruner_method(f"{own}:PatientPruner")(tolerance=0.2).select(
        [{**entry, "loss": 1.0} for entry in SCORES], 2
    ) == [1, 3]
    for name, message in (("TooManyPruner", "selects 3 layers, but 2 are requested"), ("TwicePruner", "distinct")):
        with pytest.raises(PlanError, match=message):
            pruner_method(f"{own}:{name}")().select(entries, 2)
    plain = pruner_method(f"{own}:PlainPruner")()
    entries = [entry.to_dict() for entry in score_layers(plain, base, tokens, Runtime("cpu", 4)).layers]
    assert entries == [{"index": layer, "score": float(-layer)} for layer in range(4)]
    for count in (1, 2, 3):  # which it takes as a share
        assert plain.select(entries, count) == list(range(3, 3 - count, -1))
    with pytest.raises(PrunerError, match=r"HalfPruner: scores must name each of the layers 0 … 3 once, not \[0, 2\]"):
        score_layers(pruner_method(f"{own}:HalfPruner")(), base, tokens, Runtime("cpu", 4))


@pytest.mark.parametrize(
    ("implementation", "message"),
    [
        ("no_such_module:MyPruner", "'no_such_module' cannot be imported"),
        ("{own}:LastTokenPrunner", "has no class 'LastTokenPrunner'; did you mean 'LastTokenPruner'"),
        ("{own}:number", "has no class 'number'"),
        ("{own}:Options", "'Options' is not a subclass"),
        ("{own}", "write the class as my_package.my_module:MyPruner"),
        (":MyPruner", "write the class as"),
    ],
)
def test_a_pruner_that_is_not_there(implementation: str, message: str, own: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pruner_method(implementation.format(own=own))


def test_options_of_another_kind_are_refused() -> None:
    class Odd(BasePruner):
        Options: Any = dict

    with pytest.raises(PrunerError, match="subclass of CalibratedOptions"):
        Odd(None, device="cpu")
    assert BasePruner.options_class() is CalibratedOptions


@pytest.mark.parametrize("entries", [[1.0, 2.0], [{"index": 0}], [{"index": 0, "score": "high"}]])
def test_scores_of_another_form(entries: Any) -> None:
    with pytest.raises(PrunerError, match="mine: scores must be a mapping from layer to number, or entries"):
        checked_entries(entries, len(entries), "mine")


def test_entries_are_ordered() -> None:
    assert checked_entries([SCORES[2], SCORES[0], SCORES[1]], 3, "mine") == SCORES[:3]
    assert checked_entries({2: 0.3, 0: 0.5, 1: 0.1}, 3, "mine") == SCORES[:3]
    check_removable([2, 0], range(3))


def test_import_is_light() -> None:
    """A user's module, which the Snakefile imports, imports this one."""
    statement = "import sys, llm_pruner.pruners; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", statement], check=True, cwd=ROOT)

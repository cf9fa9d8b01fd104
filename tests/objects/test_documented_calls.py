"""Calls that are documented, as people write them: on loaded models, with nothing said that can be left out."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

import llm_pruner
from llm_pruner import (
    AblationPruner,
    BasePruner,
    DataError,
    ModelEvaluator,
    Plan,
    PlanError,
    PruneMePruner,
    PrunerError,
    SmartPruner,
    load_eval_dataset,
    plot_layer_importance,
)
from llm_pruner.cli import app
from llm_pruner.cli.quick import usual_variant
from llm_pruner.mechanisms.job import Outcome
from llm_pruner.methods import METHODS
from llm_pruner.models.checkpoint import load
from llm_pruner.objects import questions
from llm_pruner.objects.layer_scores import LayerScores
from llm_pruner.objects.pruners import share_of_layers
from llm_pruner.system.errors import ConfigError
from llm_pruner.system.files import read_json
from llm_pruner.system.provenance import Run
from llm_pruner.variants import grammar
from llm_pruner.variants.make import pruning_record
from tests.tiny.families import FAMILIES
from tests.tiny.models import build_model, logits

ALL = [AblationPruner, BasePruner, PruneMePruner, SmartPruner, llm_pruner.AVSSPruner]


@pytest.fixture
def folder(make_model: Callable[..., Path], tokenizer: Any) -> Path:
    """A model folder with a tokenizer."""
    path = make_model("qwen3", num_hidden_layers=6)
    if not (path / "tokenizer.json").exists():
        tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


# scores


def test_scores_are_a_mapping_that_carries_more() -> None:
    scores = LayerScores([{"index": 1, "score": 2, "loss": 0.5}, {"index": 0, "score": torch.tensor(3.0)}])
    assert scores == {0: 3.0, 1: 2.0} and len(scores) == 2 and sorted(scores) == [0, 1]
    assert scores[1] == 2.0 and isinstance(scores[1], float) and scores.get(2) is None
    assert scores.entries[0]["loss"] == 0.5
    assert LayerScores.of(scores) is scores
    assert LayerScores.of({3: 1}).entries == [{"index": 3, "score": 1.0}]
    for wrong in ([{"index": 0}], {0: "high"}, [1.0], {None: 1.0}):
        with pytest.raises(DataError, match="a mapping from layer to number"):
            LayerScores.of(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("pruner_class", ALL)
def test_three_calls_on_a_loaded_model(
    pruner_class: type[BasePruner], folder: Path, tokenizer: Any, tokens: torch.Tensor, tmp_path: Path, offline: None
) -> None:
    model = load(folder)
    pruner = pruner_class(model, tokenizer, device="cpu")
    scores = pruner.compute_layer_scores(load_eval_dataset(8))
    assert sorted(scores) == list(range(6)) and all(isinstance(score, float) for score in scores.values())
    layers = pruner.select_layers(scores)
    assert len(layers) == 1 and 0 < layers[0] < 5
    before = logits(model, tokens)
    pruned, plan = pruner.prune_and_save(layers, tmp_path / "output", str(folder))
    assert torch.equal(logits(model, tokens), before)  # left as it was
    assert plan.removed_layers == tuple(layers) and pruned.config.num_hidden_layers == 5
    kept = [layer for index, layer in enumerate(model.model.layers) if index not in layers]
    model.model.layers = torch.nn.ModuleList(kept)
    torch.testing.assert_close(logits(pruned, tokens), logits(model, tokens), rtol=1e-5, atol=1e-6)


# the usual amount


@pytest.mark.parametrize(("layers", "count"), [(3, 1), (4, 1), (9, 1), (10, 2), (30, 6), (32, 6)])
def test_a_fifth_goes_and_never_an_end(layers: int, count: int) -> None:
    assert share_of_layers(0.2, layers) == count
    lowest_at_the_ends = {layer: float(min(layer, layers - 1 - layer)) for layer in range(layers)}
    pruner = BasePruner(None, device="cpu")
    selected = pruner.select_layers(lowest_at_the_ends)
    inner = sorted(range(1, layers - 1), key=lambda layer: (lowest_at_the_ends[layer], -layer))
    assert selected == sorted(inner[:count])
    # whoever says how many gets the ends too
    assert pruner.select_layers(lowest_at_the_ends, count=1) == [layers - 1]
    assert pruner.select_layers(lowest_at_the_ends, threshold=0.5) == [0, layers - 1]


def test_a_model_that_is_all_ends() -> None:
    with pytest.raises(PlanError, match="only 0 of 2 layers are neither first nor last; give count"):
        BasePruner(None, device="cpu").select_layers({0: 1.0, 1: 2.0})


def test_ends_are_those_of_the_model_and_not_of_the_scores(make_model: Callable[..., Path]) -> None:
    pruner = BasePruner(make_model("llama"), device="cpu")
    assert pruner.select_layers({1: 0.5, 2: 0.1}) == [2]
    assert pruner.select_layers({2: 0.5, 3: 0.1}) == [2]


@pytest.mark.parametrize("layers", [3, 4, 5, 6, 8, 10])
def test_every_usual_amount_can_be_had_of_layers_that_go_one_after_the_other(
    layers: int, make_model: Callable[..., Path], tokens: torch.Tensor
) -> None:
    pruner = SmartPruner(make_model("llama", num_hidden_layers=layers), device="cpu")
    selected = pruner.select_layers(pruner.compute_layer_scores(tokens))
    assert len(selected) == max(1, layers // 5) and not {0, layers - 1} & set(selected)


def test_plain_scores_of_any_pruner_say_that_the_lowest_go() -> None:
    scores = {0: 0.5, 1: 0.1, 2: 0.4, 3: 0.1}
    for pruner_class in ALL:
        assert pruner_class(None, device="cpu").select_layers(scores, count=2) == [1, 3]


# a pruner of one's own


class DownProjection(BasePruner):
    def description(self) -> str:
        return "Layers with the smallest down projections"

    def compute_layer_scores(self, eval_data: Any) -> dict[int, float]:
        return {
            index: self.layers[index].mlp.down_proj.weight.norm().item()  # type: ignore[union-attr]
            for index in range(self.num_layers)
        }

    def select_layers(self, scores: Any, ratio: float = 0.2, threshold: float | None = None) -> list[int]:  # type: ignore[override]
        lowest = sorted(scores.items(), key=lambda pair: pair[1])
        return sorted(layer for layer, _ in lowest[: max(1, int(len(scores) * ratio))])


def test_a_subclass_reads_the_layers_themselves(tmp_path: Path) -> None:
    model = build_model("llama")
    for factor, layer in zip((3.0, 0.5, 2.0, 1.0), model.model.layers, strict=True):
        layer.mlp.down_proj.weight.data[:] = factor
    pruner = DownProjection(model)
    assert (pruner.num_layers, len(pruner.layers)) == (4, 4)
    scores = pruner.compute_layer_scores([])
    norm = (32 * 24) ** 0.5
    assert scores == pytest.approx({0: 3 * norm, 1: norm / 2, 2: 2 * norm, 3: norm})
    assert pruner.select_layers(scores, ratio=0.5) == [1, 3]
    pruned, _ = pruner.prune_and_save([1, 3], tmp_path / "output", "someone/model")
    assert [layer.mlp.down_proj.weight[0, 0].item() for layer in pruned.model.layers] == [3.0, 2.0]


def test_layers_of_a_folder_are_not_in_memory(make_model: Callable[..., Path]) -> None:
    pruner = BasePruner(make_model("llama"), device="cpu")
    assert pruner.num_layers == 4
    with pytest.raises(PrunerError, match="take layers from stream"):
        _ = pruner.layers
    with pytest.raises(PrunerError, match="pruner has no model"):
        _ = BasePruner(None, device="cpu").num_layers


# saving


@pytest.mark.parametrize("family", FAMILIES)
def test_a_loaded_model_is_saved_as_its_folder_is(
    family: str, make_model: Callable[..., Path], tokenizer: Any, tmp_path: Path
) -> None:
    base = make_model(family)
    for name, source in (("folder", base), ("loaded", load(base))):
        pruned, plan = BasePruner(source, tokenizer, device="cpu").prune_and_save([1], tmp_path / name, "someone/model")
        assert str(pruned.device) == "cpu" and plan == Plan.read(tmp_path / name / "plan.json")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("folder", "loaded")]
    assert weights[0] == weights[1]
    assert (tmp_path / "loaded" / "tokenizer.json").exists()
    merges = [(tmp_path / name / "mergekit.yaml").read_text() for name in ("folder", "loaded")]
    assert merges[0] == merges[1]
    assert yaml.safe_load(merges[0])["slices"][0]["sources"][0]["model"] == "someone/model"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "loaded"]  # nothing is left beside


def test_saving_replaces_its_own_and_nothing_else(make_model: Callable[..., Path], tmp_path: Path) -> None:
    pruner = BasePruner(make_model("llama"), device="cpu")
    pruner.prune_and_save([1], tmp_path / "output")
    pruned, _ = pruner.prune_and_save([1, 2], tmp_path / "output")
    assert pruned.config.num_hidden_layers == 2
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.tex").write_text("all of it")
    with pytest.raises(PrunerError, match="not a pruned model; choose another folder"):
        pruner.prune_and_save([1], tmp_path / "papers")
    assert (tmp_path / "papers" / "thesis.tex").read_text() == "all of it"
    with pytest.raises(PrunerError, match="give model_id"):
        BasePruner(build_model("llama"), device="cpu").prune_and_save([1], tmp_path / "unnamed")
    assert not (tmp_path / "unnamed").exists()


def test_what_is_saved_can_be_pruned_again(make_model: Callable[..., Path], tmp_path: Path) -> None:
    BasePruner(make_model("llama"), device="cpu").prune_and_save([1], tmp_path / "first")
    pruned, plan = BasePruner(tmp_path / "first", device="cpu").prune_and_save([0], tmp_path / "second")
    assert (plan.base_layers, pruned.config.num_hidden_layers) == (3, 2)
    assert Plan.read(tmp_path / "second" / "plan.json") == plan


# drawing and evaluating


def test_drawing_and_evaluating_with_nothing_said(
    folder: Path, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None
) -> None:
    monkeypatch.chdir(tmp_path)
    model = load(folder)
    items = load_eval_dataset(4)
    pruner = AblationPruner(model, tokenizer)
    scores = pruner.compute_layer_scores(items)
    plot_layer_importance(scores)
    assert (tmp_path / "layer_importance.png").read_bytes()[:4] == b"\x89PNG"
    layers = pruner.select_layers(scores, threshold=sorted(scores.values())[2])
    assert len(layers) == 2
    pruned, _ = pruner.prune_and_save(layers, "./output", str(folder))
    for one in (model, pruned):
        found = ModelEvaluator(one, tokenizer).evaluate(items)
        assert -1 <= found["similarity"] <= 1 and found["items"] == 4


# questions


def test_questions_say_where_they_come_from(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert load_eval_dataset(2)[0]["source"] == "packaged"
    told = capsys.readouterr()
    assert told.out == "" and told.err == "questions: from the packaged sample, because the hub is not reachable\n"
    load_eval_dataset(2, "packaged")
    assert capsys.readouterr().err == ""  # as asked


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 503 Busy\r\n\r\n", None])
def test_the_hub_is_asked_and_not_waited_for(answer: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that answers, one that is down, and one that says nothing."""
    import threading

    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def serve() -> None:
            connection, _ = server.accept()
            held.append(connection)
            connection.recv(4096)
            if answer:
                connection.sendall(answer)
                connection.close()

        threading.Thread(target=serve, daemon=True).start()
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        started = time.monotonic()
        assert questions.is_reachable(0.5 if answer is None else 5.0) is bool(answer and b"200" in answer)
        assert time.monotonic() - started < 5
    # nobody listens any more
    assert not questions.is_reachable()


# the command line


def run(*arguments: Any, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


@pytest.mark.parametrize(
    ("strategy", "name"), [("smart", "Smart_remove_1"), ("Wanda", "Wanda_2000"), ("sparsegtp", None)]
)
def test_one_line_from_model_to_gains(strategy: str, name: str | None, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "pruned"
    if name is None:
        failed = run("--model", folder, "--strategy", strategy, "--output", output, code=1)
        assert "unknown method" in failed.stderr and not output.exists()
        return
    done = run("--model", folder, "--strategy", strategy, "--output", output, "--device", "cpu", "--no-progress")
    for row in (name, "before", "after", "layers", "parameters", "perplexity", "right answers of 48"):
        assert row in done.stdout
    gains = read_json(output / "gains.json")
    assert gains["parameters"]["after"] < gains["parameters"]["before"]
    models = {"before": folder, "after": output / "model"}
    for which, model in models.items():
        assert gains["parameters"][which] == llm_pruner.count_parameters(model)
        part = "before" if which == "before" else "evaluation"
        assert gains["perplexity"][which] == read_json(output / part / "perplexity.json")["perplexity"]
    assert (output / "analysis" / "model_comparison.json").exists()
    depth = name == "Smart_remove_1"
    assert gains["layers"] == {"before": 6, "after": 5 if depth else 6}
    assert (output / "mergekit.yaml").exists() is depth
    drawn = {"layer_reduction.png", "right_answers.png"} | ({"layer_importance.png"} if depth else set())
    assert {path.name for path in (output / "figures").iterdir()} == drawn
    removed = Plan.read(output / "plan.json").removed_layers
    assert not {0, 5} & set(removed)
    refused = run("--model", folder, "--strategy", strategy, "--output", output, code=1)
    assert "--force" in refused.stderr


def test_usual_variants_of_all_methods() -> None:
    named = {name: usual_variant(name.lower(), 30).name for name in METHODS if name != "Dense"}
    assert named["Smart"] == "Smart_remove_6" and named["Wanda"] == "Wanda_2000"
    assert all(name.partition("_")[2] in ("remove_6", "2000", "2of4") for name in named.values())
    smart = usual_variant("smart", 30)
    assert smart.options["protect_first"] == smart.options["protect_last"] == 1
    assert smart.method_options["steps"] == 8  # six, and both ends before them at worst
    assert smart.method_options["samples"] == 4 and usual_variant("wanda", 30).method_options["samples"] is None
    with pytest.raises(ConfigError, match="removes nothing"):
        usual_variant("dense", 30)


def test_options_of_the_quick_way_belong_to_it_alone(folder: Path, tmp_path: Path) -> None:
    early = run("--model", folder, "prune", "--output", tmp_path, code=2)
    assert "write options behind the command" in " ".join(early.stderr.split())
    assert "--strategy" in run("--model", folder, "--output", tmp_path / "out", code=2).stderr
    assert "Usage" in run(code=2).output


def test_analyses_of_many_go_where_they_are_told(
    make_parent: Callable[..., Path], make_model: Callable[..., Path], tmp_path: Path
) -> None:
    base, models = make_model(), tmp_path / "models"
    for name in ("Magnitude_3000", "ShortGPT_remove_1"):
        shutil.copytree(make_parent(name, {}, base), models / name)
    # the base among the variants of a run, taken out of it: links that lead nowhere
    pruning_record(grammar.resolve("Dense"), Outcome(0.0), Run({})).write(models / "Dense" / "pruning.json")
    (models / "Dense" / "model").mkdir()
    (models / "Dense" / "model" / "config.json").symlink_to("../../../resources/model/config.json")
    place = tmp_path / "analyses"
    run("analyze-batch", "--models-dir", models, "--base-model", base, "--output-dir", place, "--merge-results")
    for name in ("Dense", "Magnitude_3000", "ShortGPT_remove_1"):
        assert len(list((place / name / "analysis").iterdir())) == 5
        assert not (models / name / "analysis").exists()
    merged = read_json(place / "models_structure_summary.json")
    run("summarize", "--dirs", place, "--output", tmp_path / "summary")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["timestamp"] and summary["total_models"] == 3 and summary["models"] == merged["models"]
    worst = max(summary["models"][-1]["layer_pruning"], key=lambda layer: layer["reduction_ratio"])
    assert summary["models"][0]["pruning"]["reduction_ratio"] == 0
    assert worst["reduction_ratio"] == 1.0 and worst["layer_idx"] in range(4)


def test_the_short_name_of_the_pruners_is_theirs() -> None:
    assert importlib.util.find_spec("llm_pruner.pruners") is not None
    from llm_pruner import pruners

    assert all(getattr(pruners, name) is getattr(llm_pruner, name) for name in pruners.__all__)

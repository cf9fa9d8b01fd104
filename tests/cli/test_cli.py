"""The command line: the library's results, apart from what is said about them, and errors without tracebacks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from openpyxl import load_workbook
from safetensors.torch import load_file, save_file

from llm_pruner.cli import app
from llm_pruner.cli.chain import Text, compose_name
from llm_pruner.cli.common import read_options
from llm_pruner.data.tokens import read_tokens, write_tokens
from llm_pruner.methods import METHODS
from llm_pruner.models.doctor import examine
from llm_pruner.planning.allocations import ALLOCATIONS
from llm_pruner.system.files import read_json
from tests.tiny import ROOT
from tests.tiny.commands import heavy_imports, run, run_json
from tests.tiny.making import make
from tests.tiny.results import model


@pytest.fixture
def variants(make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> Path:
    """A folder of three variants, analysed."""
    base, folder = make_model(), tmp_path / "variants"
    for name in ("Dense", "Magnitude_3000", "ShortGPT_remove_1"):
        make(name, {}, base, token_file, folder / name)
    run("analyze-batch", "--models-dir", folder, "--base-model", base)
    return folder


# --- making models -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "options"),
    [
        ("Wanda_3000", ["--strategy", "WANDA", "--ratio", "0.3", "--structure", "width"], {}),
        ("Wanda_2of4", ["--strategy", "wanda", "--structure", "2:4"], {}),
        ("Magnitude_unstructured_5000", ["--strategy", "magnitude", "--ratio", 0.5, "--structure", "unstructured"], {}),
        ("ShortGPT_remove_1", ["--strategy", "shortgpt", "--layers", 1], {}),
        ("Wanda_owl_unstructured_6000", ["--name", "Wanda_owl_unstructured_6000"], {"allocation": "owl"}),
        ("SliceGPT_2500", ["--strategy", "slicegpt", "--ratio", 0.25], {"schedule": "variance", "multiple_of": 2}),
        (
            "GQA_even_3000",
            ["--name", "GQA_even_3000"],
            {"allocation": "inverse", "importance": "ShortGPT", "samples": 4, "layer_range": "1:4"},
        ),
    ],
)
def test_prune_makes_what_the_workflow_makes(
    name: str,
    arguments: list[Any],
    options: dict[str, Any],
    make_model: Callable[..., Path],
    token_file: Path,
    tmp_path: Path,
) -> None:
    expected = make(name, options, make_model(), token_file, tmp_path / "expected").to_dict()
    pairs = [part for key, value in options.items() for part in ("--option", f"{key}={value}")]
    output = tmp_path / "output"
    place = ["--model", make_model(), "--calibration", token_file, "--output", output, "--device", "cpu"]
    record = run_json("prune", *place, *arguments, *pairs, "--batch-size", 8)
    files = sorted(path.name for path in (tmp_path / "expected" / "model").iterdir())
    assert sorted(path.name for path in (output / "model").iterdir()) == files
    for file in files:
        assert (output / "model" / file).read_bytes() == (tmp_path / "expected" / "model" / file).read_bytes()
    plan = tmp_path / "expected" / "plan.json"
    assert (output / "plan.json").exists() == plan.exists()
    assert not plan.exists() or (output / "plan.json").read_bytes() == plan.read_bytes()
    for key in ("variant", "asked", "reached", "options", "scores", "notes"):
        assert record[key] == expected[key]
    assert record.get("layers") == expected.get("layers")
    assert record == read_json(output / "pruning.json")


def test_scores_of_layers_are_kept_too(make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> None:
    place = ["--model", make_model(), "--output", tmp_path / "output", "--calibration", token_file, "--strategy"]
    blocks = ["--option", "drop=mlp"]
    assert ": kept, made before" not in run("prune", *place, "shortgpt", "--layers", 1, *blocks).stderr
    assert ": kept, made before" in run("prune", *place, "shortgpt", "--layers", 2, *blocks, "--force").stderr
    # of whole layers, not of blocks
    assert ": kept, made before" not in run("prune", *place, "shortgpt", "--layers", 2, "--force").stderr


def test_prune_keeps_its_tokens_and_scores(make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    place = ["--model", make_model(), "--output", output, "--strategy", "wanda", "--ratio", 0.3]
    assert "Wanda_3000" in run("prune", *place, "--calibration", token_file, "--samples", 4).stdout
    kept = output / "calibration.safetensors"
    assert torch.equal(read_tokens(kept), read_tokens(token_file)[:4])
    refused = run("prune", *place, "--calibration", kept, code=1)
    assert refused.stdout == "" and refused.stderr.count("\n") == 1 and "--force" in refused.stderr

    first = (output / "model" / "model.safetensors").read_bytes()
    scored = (output / "scores" / "Wanda.json").stat().st_mtime_ns
    assert "kept" in run("prune", *place, "--calibration", kept, "--force").stderr
    assert (output / "scores" / "Wanda.json").stat().st_mtime_ns == scored
    assert (output / "model" / "model.safetensors").read_bytes() == first
    # other tokens: other scores
    assert "kept" not in run("prune", *place, "--calibration", token_file, "--force").stderr
    assert (output / "scores" / "Wanda.json").stat().st_mtime_ns != scored
    # a model without a plan in its place
    (output / "analysis").mkdir()
    replaced = run("prune", *place[:-4], "--strategy", "magnitude", "--structure", "2:4", "--force")
    assert "analysis: belongs to the replaced model" in replaced.stderr and not (output / "plan.json").exists()


def test_scores_made_before_are_used(make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores" / "gqa.json"
    place = ["--model", make_model(), "--no-progress"]
    held = run_json("score", *place, "--strategy", "hgsp", "--calibration", token_file, "--output", scores)
    assert held["id"] == "GQA" and len(held["layers"]) == 4  # one file for both
    given = [*place, "--ratio", 0.3, "--scores", scores, "--calibration", "nowhere.txt"]
    run("prune", *given, "--strategy", "GQA", "--output", tmp_path / "gqa")
    assert not (tmp_path / "gqa" / "scores").exists() and not (tmp_path / "gqa" / "calibration.safetensors").exists()
    wrong = run("prune", *given, "--strategy", "magnitude", "--output", tmp_path / "other", code=1)
    assert wrong.stderr == f"{scores}: holds no scores for Magnitude_3000, which takes Magnitude\n"
    nothing = run("score", *place, "--strategy", "wanda", "--structure", "2:4", "--output", scores, code=1)
    assert "has no scores before pruning" in nothing.stderr


def test_a_split_is_searched_for(make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> None:
    place = ["--model", make_model(), "--calibration", token_file, "--samples", 4, "--output", tmp_path / "out"]
    search = ["--strategy", "magnitude", "--ratio", 0.3, "--option", "split=search"]
    # four to score by and 64 behind them to judge by
    assert "not 68 of 20" in run("prune", *place, *search, code=1).stderr
    run("prune", *place, *search, "--held-out", token_file)
    assert read_json(tmp_path / "out" / "search.json")["variant"] == "Magnitude_3000"
    assert (tmp_path / "out" / "split_search.png").exists()


def test_drawn_samples_are_those_of_the_workflow(
    make_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llm_pruner.data import sampling

    monkeypatch.setattr(sampling, "load_tokenizer", lambda *_: lambda text, **_kwargs: {"input_ids": [*map(ord, text)]})
    text = tmp_path / "text.txt"
    text.write_text("".join(chr(33 + index % 60) for index in range(3000)))
    for name, samples, skip in (("calibration", 5, 0), ("held_out", 64, 5)):
        expected, drawn = tmp_path / f"{name}.expected", tmp_path / f"{name}.safetensors"
        spec = sampling.SampleSpec(str(text), None, samples, length=16, seed=3, skip=skip)
        sampling.draw_samples(spec, make_model(), expected)
        Text(str(text), samples=5, length=16, seed=3).draw(make_model(), drawn, held_out=skip > 0)
        assert drawn.read_bytes() == expected.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--strategy", "wanda", "--ratio", "0.33333"], 2, "0.3333 or 0.3334"),
        (["--strategy", "wanda", "--ratio", "1.5"], 2, "not between 0 and 1"),
        (["--strategy", "wanda"], 2, "--ratio"),
        (["--strategy", "wanda", "--ratio", "x"], 2, "--ratio"),
        (["--ratio", "0.3"], 2, "--strategy"),
        (["--strategy", "shortgpt", "--structure", "depth"], 2, "--layers or a share"),
        (["--strategy", "wanda", "--structure", "width", "--layers", "2"], 2, "is for depth"),
        (["--strategy", "wanda", "--structure", "2:4", "--ratio", "0.3"], 2, "removes 0.5"),
        (["--strategy", "wanda", "--structure", "wide", "--ratio", "0.3"], 2, "N:M"),
        (["--strategy", "wanda", "--structure", "slice", "--ratio", "0.3"], 2, "Wanda prunes by width"),
        (["--strategy", "slicegpt", "--structure", "width", "--ratio", "0.3"], 2, "SliceGPT prunes by slice"),
        (["--strategy", "slicegpt", "--ratio", "0.8"], 1, "leaves fewer than 8"),
        (["--strategy", "wanda", "--ratio", "0.3", "--option", "samples"], 2, "KEY=VALUE"),
        (["--strategy", "wanda", "--ratio", "0.3", "--name", "Wanda_x_4000"], 2, "contradicts the other options"),
        (["--strategy", "wnda", "--ratio", "0.3"], 1, "did you mean 'Wanda'?"),
        (["--strategy", "wanda", "--ratio", "0.3", "--option", "sample=3"], 1, "did you mean 'samples'?"),
        (["--strategy", "wanda", "--ratio", "0.99"], 1, "width can remove at most"),
        (["--strategy", "shortgpt", "--layers", "4"], 1, "at most 3 can be removed"),
        (["--strategy", "wanda", "--ratio", "0.3", "--calibration", "nowhere"], 1, "nowhere"),
        (["--strategy", "wanda", "--ratio", "0.3", "--split", "tset"], 1, "did you mean 'test'?"),
        (["--strategy", "wanda", "--ratio", "0.3", "--length", "65"], 1, "context is 64"),
        (["--strategy", "wanda", "--ratio", "0.3", "--model", "nowhere"], 2, "nowhere"),
    ],
)
def test_mistakes_of_prune_are_told(
    arguments: list[str], code: int, message: str, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    result = run("prune", "--model", make_model(), "--output", tmp_path / "out", *arguments, code=code)
    assert result.stdout == "" and message in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "out" / "model").exists()


def test_names_and_options() -> None:
    assert compose_name("Random", "unstructured", 0.0001, None) == "Random_unstructured_0001"
    assert compose_name("wanda", "4:8", 0.5, None) == "Wanda_4of8"
    assert compose_name("wanda", None, 0.29, None) == "Wanda_2900"
    assert read_options(["a=2:8", "b=1e-3", "c=null", "d=x=y"]) == {"a": "2:8", "b": 1e-3, "c": None, "d": "x=y"}
    with pytest.raises(typer.BadParameter):
        compose_name("wanda", "width", 0.0, None)


def test_heal(make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> None:
    make("ShortGPT_remove_1", {}, make_model(), token_file, tmp_path / "pruned")
    place = ["--model", tmp_path / "pruned", "--tokens", token_file, "--held-out", token_file, "--no-progress"]
    few = ["--option", "steps=2", "--option", "batch_size=2", "--option", "checks=2"]
    record = run_json("heal", *place, *few, "--step", "lora", "--output", tmp_path / "healed")
    assert record["variant"] == "ShortGPT_remove_1+lora" and record["parent"] == "ShortGPT_remove_1"
    assert (tmp_path / "healed" / "plan.json").read_text() == (tmp_path / "pruned" / "plan.json").read_text()
    assert (tmp_path / "healed" / "step.json").exists() and (tmp_path / "healed" / "healing.png").exists()
    run("heal", *place, "--step", "kd", "--output", tmp_path / "kd", code=2)
    other = run("heal", *place, "--step", "nf4", "--output", tmp_path / "kd", code=1)
    assert "--step: no 'nf4' here; known: kd, lora" in other.stderr
    wrong = run("heal", *place, "--step", "lra", "--output", tmp_path / "kd", code=1)
    assert "did you mean 'lora'?" in wrong.stderr


def test_step(make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> None:
    base = make_model()
    make("ShortGPT_remove_1", {}, base, token_file, tmp_path / "pruned")
    place = ["--model", tmp_path / "pruned", "--output", tmp_path / "taught", "--no-progress"]
    files = ["--tokens", token_file, "--held-out", token_file]
    few = ["--option", "steps=2", "--option", "batch_size=2", "--option", "checks=2"]
    assert "--base" in run("step", "kd", *place, *files, code=2).stderr
    assert "--tokens" in run("step", "lora", *place, code=2).stderr
    assert "NAME: no 'lra' here; did you mean 'lora'?" in run("step", "lra", *place, code=1).stderr
    taught = run_json("step", "kd", *place, *files, *few, "--base", base)
    assert (tmp_path / "taught" / "healing.png").exists() and (tmp_path / "taught" / "plan.json").exists()
    small = run_json("step", "nf4", "--model", tmp_path / "taught", "--output", tmp_path / "small")
    assert small["variant"] == "ShortGPT_remove_1+kd+nf4" and small["parent"] == "ShortGPT_remove_1+kd"
    assert small["steps"][0] == taught["steps"][0]
    assert [step["name"] for step in small["steps"]] == ["kd", "nf4"]
    assert not (tmp_path / "small" / "healing.png").exists()


def test_quantize(make_model: Callable[..., Path], token_file: Path, tmp_path: Path) -> None:
    make("ShortGPT_remove_1", {}, make_model(), token_file, tmp_path / "pruned")
    place = ["--model", tmp_path / "pruned", "--output", tmp_path / "small"]
    record = run_json("quantize", *place, "--option", "double_quant=true")
    assert record["variant"] == "ShortGPT_remove_1+nf4" and record["steps"][0]["options"]["double_quant"] is True
    assert record["steps"][0]["bytes"]["after"] < record["steps"][0]["bytes"]["before"]
    assert (tmp_path / "small" / "plan.json").exists()
    assert "small" in run("quantize", *place, code=1).stderr  # there already
    # the model folder itself is as good, and so is any model that was not made here
    inside = run_json("quantize", "--model", tmp_path / "pruned" / "model", "--output", tmp_path / "inside")
    assert inside["variant"] == record["variant"] and (tmp_path / "inside" / "plan.json").exists()
    other = run_json("quantize", "--model", make_model(), "--output", tmp_path / "other")
    assert (other["variant"], other["parent"]) == ("Dense+nf4", "Dense")
    assert not (tmp_path / "other" / "plan.json").exists()
    assert "has no config.json" in run("quantize", "--model", tmp_path, "--output", tmp_path / "x", code=1).stderr
    assert "did you mean 'nf4'" in run("quantize", *place, "--force", "--step", "nf", code=1).stderr


# --- looking at models -------------------------------------------------------------------------------------


def test_analyze(variants: Path, make_model: Callable[..., Path], tmp_path: Path) -> None:
    model = variants / "ShortGPT_remove_1"
    for given in (model, model / "model"):
        place = ["--output", tmp_path / "analysis", "--force"]
        comparison = run_json("analyze", "--model", given, "--base", make_model(), *place)
        assert comparison == read_json(model / "analysis" / "model_comparison.json")
    (model / "plan.json").rename(tmp_path / "plan.json")
    place = ["analyze", "--model", model, "--base", make_model(), "--output", tmp_path / "analysis", "--force"]
    assert "no plan.json" in run(*place).stderr
    assert "compared with Dense" in run(*place, "--plan", tmp_path / "plan.json").stdout


def test_analyze_batch_goes_on_after_a_broken_model(variants: Path, make_model: Callable[..., Path]) -> None:
    weights = variants / "Magnitude_3000" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    place = ["analyze-batch", "--models-dir", variants, "--base-model", make_model(), "--merge-results"]
    assert "exists already" in run(*place, code=1).stderr
    result = run(*place, "--json", "--force", code=3)
    assert json.loads(result.stdout)["analysed"] == ["Dense", "ShortGPT_remove_1"]
    problems = [line for line in result.stderr.splitlines() if "not analysed" in line]
    assert len(problems) == 1 and "Magnitude_3000" in problems[0] and "truncated" in problems[0]
    assert read_json(variants / "models_structure_summary.json")["total_models"] == 2


def test_summarize(variants: Path, tmp_path: Path) -> None:
    other = tmp_path / "results"
    shutil.copytree(variants / "Dense", other / "Copy")
    output = ["--output", tmp_path / "sum"]
    whole = run_json("summarize", "--dirs", variants, other, *output)
    assert [model["name"] for model in whole["models"]] == ["Dense", "Magnitude_3000", "ShortGPT_remove_1", "Copy"]
    (variants / "Dense" / "analysis" / "model_comparison.json").write_text('{"a"')
    (other / "Copy" / "analysis" / "model_comparison.json").write_text("[]")
    shutil.rmtree(variants / "Magnitude_3000" / "analysis")
    result = run("summarize", "--dirs", variants, other, *output, "--force", code=3)
    assert "Dense: left out" in result.stderr and "Copy: left out" in result.stderr and "JSON" in result.stderr
    text = (tmp_path / "sum.txt").read_text()
    assert f"✗ Magnitude_3000: no analysis; llm-pruner analyze --model {variants / 'Magnitude_3000'}/model" in text
    summary = read_json(tmp_path / "sum.json")
    assert summary["missing"] == ["Magnitude_3000"] and sorted(summary["damaged"]) == ["Copy", "Dense"]
    assert (
        "no folder of a pruned model" in run("summarize", tmp_path / "variants" / "Dense" / "analysis", code=1).stderr
    )


def test_show_prints_the_rows_of_a_run_in_its_order(variants: Path, tmp_path: Path) -> None:
    everything = run("show", variants)
    assert everything.stderr == "" and all(folder.name in everything.stdout for folder in variants.iterdir())
    shutil.copytree(variants, tmp_path / "run" / "baselines")
    run("table", "--result-dir", variants, "--output", tmp_path / "run" / "results" / "summary.csv")
    table = tmp_path / "run" / "results" / "summary.csv"
    heading, dense, *rest = table.read_text().splitlines(keepends=True)
    table.write_text("".join((heading, dense, *rest[:0:-1])))
    shown = run_json("show", tmp_path / "run")
    assert shown["models"] == ["Dense", *(row.partition(",")[0] for row in rest[:0:-1])]
    assert [one["share"] for one in shown["best"]] == [0.9, 0.8, 0.7, 0.6, 0.5]
    (tmp_path / "empty").mkdir()
    assert "no folder of a pruned model" in run("show", tmp_path / "empty", code=1).stderr


def test_recommend_names_the_best_within_limits(variants: Path) -> None:
    dense, *pruned = ("Dense", "Magnitude_3000", "ShortGPT_remove_1")
    parameters = {row["variant"]: row["parameters"] for row in run_json("compare", variants)}
    limit = ["--max-parameters", parameters[dense] - 1]
    assert "no row within the limits has a perplexity: Magnitude" in run("recommend", variants, *limit, code=1).stderr
    for name, losses in zip((dense, *pruned), ((1.0, 1.1), (1.5, 1.8), (1.3, 1.2)), strict=True):
        measured = model(name, 1, *losses).perplexity
        assert measured
        measured.write(variants / name / "evaluation" / "perplexity.json")
    found = run_json("recommend", variants, *limit)
    assert (found["best"], found["runner_up"], found["told_apart"]) == ("ShortGPT_remove_1", "Magnitude_3000", False)
    assert run("recommend", variants, *limit).stdout.startswith("ShortGPT_remove_1: ")
    nothing = run("recommend", variants, "--max-parameters", "1", code=1).stderr
    assert nothing.startswith("no row keeps the limits Parameters ≤ 1 (nearest: ")
    assert "no quantity such as 300MB" in run("recommend", variants, "--max-bytes", "many", code=2).stderr
    assert "give a limit" in run("recommend", variants, code=2).stderr


def test_compare_table_and_plot(variants: Path, tmp_path: Path) -> None:
    assert run("compare", variants).stdout.startswith("| Variant")
    rows = run_json("compare", variants / "Magnitude_3000", variants / "Dense")
    assert [row["variant"] for row in rows] == ["Dense", "Magnitude_3000"] and rows[0]["perplexity"] is None
    run("table", "--result-dir", variants, "--output", tmp_path / "t.xlsx")
    assert load_workbook(tmp_path / "t.xlsx")["Summary"]["A2"].value == "Dense"
    run("table", "--result-dir", variants, "--output", tmp_path / "t.csv")
    run("table", "--result-dir", variants, "--output", tmp_path / "t.pdf", code=2)
    drawn = run_json("plot", "--result-dir", variants, "--output", tmp_path / "figures")["figures"]
    assert len(drawn) == 5 and all(Path(path).stat().st_size for path in drawn)
    (variants / "Dense" / "pruning.json").write_text("{")
    result = run("compare", variants, "--json", code=3)
    assert len(json.loads(result.stdout)) == 2 and "Dense: left out" in result.stderr
    run("table", "--result-dir", variants, "--output", tmp_path / "t.md", code=3)
    namesake = tmp_path / "more" / "ShortGPT_remove_1"
    shutil.copytree(variants / "ShortGPT_remove_1", namesake)
    assert "have the same name" in run("compare", namesake, variants / "ShortGPT_remove_1", code=1).stderr


def test_evaluate_against_a_reference(
    make_model: Callable[..., Path], tokenizer: Any, tokens: torch.Tensor, tmp_path: Path
) -> None:
    stream = tmp_path / "stream.safetensors"
    folders = {family: tmp_path / family for family in ("llama", "qwen3")}
    for family, folder in folders.items():
        shutil.copytree(make_model(family), folder)
        tokenizer.save_pretrained(folder)
    write_tokens(stream, tokens.reshape(1, -1), {})
    arguments = ["--model", folders["llama"], "--tokens", stream, "--window", 20, "--output", tmp_path / "evaluation"]
    itself = run_json("evaluate", *arguments, "--reference", folders["llama"])["perplexity"]["divergence"]
    assert itself["mean_kl"] == pytest.approx(0, abs=1e-6) and itself["same_top"] == 1
    told = run("evaluate", *arguments, "--reference", folders["qwen3"]).stdout
    assert told.startswith("perplexity ") and "KL divergence " in told and "same next token in " in told
    assert "divergence" not in run_json("evaluate", *arguments)["perplexity"]
    in_turn = run_json("evaluate", *arguments, "--metrics", "speed", "--reference", folders["llama"])["efficiency"]
    assert len(in_turn["base_batches"]) == len(in_turn["batches"])
    run("evaluate", *arguments, "--metrics", "memory", "--reference", folders["llama"], code=2)


def test_evaluate(
    make_model: Callable[..., Path], tokens: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llm_pruner.evaluation import quality

    scores = {"tasks": {}, "mean": {"acc": 0.5, "acc_stderr": 0.1, "acc_norm": 0.5}}

    def zero_shot(*_: Any, **__: Any) -> dict[str, Any]:
        sys.stdout.write("what a library prints\n")
        return scores

    for module in ("llm_pruner.evaluation.zero_shot", "llm_pruner.evaluation.quality"):
        monkeypatch.setattr(f"{module}.zero_shot", zero_shot)
    for module in ("llm_pruner.models.checkpoint", "llm_pruner.evaluation.quality"):
        monkeypatch.setattr(f"{module}.load_tokenizer", lambda *_: None)
    stream, output = tmp_path / "stream.safetensors", tmp_path / "evaluation"
    write_tokens(stream, tokens.reshape(1, -1), {"source": "test", "split": "x", "bytes_per_token": 2.0})
    arguments = ["--model", make_model(), "--tokens", stream, "--window", 20, "--output", output, "--tasks", "piqa"]
    speed = ["--prompt-length", 8, "--new-tokens", 2, "--repeats", 1]
    measured = run_json("evaluate", *arguments, *speed, "--metrics", "ppl,zeroshot,speed,memory", "--name", "M")
    assert set(measured) == {"perplexity", "zero_shot", "efficiency"}
    quality.evaluate_quality(
        make_model(),
        stream,
        name="M",
        perplexity_output=tmp_path / "perplexity.json",
        zero_shot_output=tmp_path / "zero_shot.json",
        continuations_output=tmp_path / "continuations.json",
        tasks=["piqa"],
        task_folder=None,
        perplexity_options={"window": 20},
        zero_shot_options={},
        continuations_options={"prompts": (), "new_tokens": 4},
    )
    for part in ("perplexity", "zero_shot"):
        found, expected = read_json(output / f"{part}.json"), read_json(tmp_path / f"{part}.json")
        assert {**found, "run": None} == {**expected, "run": None} and found == measured[part]
    assert run("evaluate", *arguments, "--metrics", "ppl").stdout.startswith("perplexity ")
    run("evaluate", *arguments, "--metrics", "ppl,sped", code=2)
    run("evaluate", *arguments, "--stride", 21, code=2)
    assert "context is 64" in run("evaluate", *arguments, "--window", 65, code=1).stderr
    write_tokens(stream, tokens[:1], {})
    short = run("evaluate", *arguments, "--window", 30, code=1)
    assert short.stdout == "" and "windows of 30" in short.stderr


@pytest.fixture
def patient(make_model: Callable[..., Path], tokenizer: Any, tmp_path: Path) -> Path:
    """A model folder with a tokenizer, to be damaged."""
    folder = tmp_path / "patient"
    shutil.copytree(make_model("qwen3"), folder)
    tokenizer.save_pretrained(folder)
    return folder


def outcomes(folder: Path) -> dict[str, str]:
    return {check.name: check.outcome for check in examine(folder, device="cpu")}


def test_doctor_finds_nothing_in_a_healthy_model(patient: Path, make_model: Callable[..., Path]) -> None:
    report = run_json("doctor", "--model", patient)
    assert report["ok"] and {check["outcome"] for check in report["checks"]} == {"ok"} and len(report["checks"]) == 8
    for family in ("llama", "mistral", "qwen2"):  # without a tokenizer
        assert [name for name, outcome in outcomes(make_model(family)).items() if outcome != "ok"] == ["tokenizer"]


def test_doctor_names_what_is_wrong(patient: Path) -> None:
    file = patient / "model.safetensors"
    whole, weights = file.read_bytes(), load_file(file)
    name = "model.layers.1.mlp.up_proj.weight"

    save_file({**weights, name: weights[name].index_fill(0, torch.tensor([3]), float("nan"))}, file)
    report = run_json("doctor", "--model", patient, code=1)
    held = {check["name"]: check for check in report["checks"]}
    assert held["finite"]["outcome"] == held["forward"]["outcome"] == "failed" and name in held["finite"]["reason"]
    assert held["generation"] == {"name": "generation", "outcome": "skipped", "reason": "needs forward"}

    file.write_bytes(whole[:-50])
    result = run("doctor", "--model", patient, code=1)
    assert "✗ weights: " in result.stdout and "truncated" in result.stdout and "– loads: needs weights" in result.stdout

    save_file({**weights, name: weights[name][:3]}, file)
    assert outcomes(patient)["weights"] == "failed"
    save_file({key: value for key, value in weights.items() if key != name}, file)
    assert outcomes(patient)["weights"] == "failed"
    save_file({**weights, "lm_head.weight": weights["model.embed_tokens.weight"] + 1}, file)
    assert outcomes(patient)["tied embeddings"] == "failed"
    file.write_bytes(whole)
    (patient / "tokenizer.json").write_text("{")
    assert outcomes(patient)["tokenizer"] == "failed"
    (patient / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    assert outcomes(patient)["config"] == "failed"


# --- the rest ----------------------------------------------------------------------------------------------


def test_exports(variants: Path, make_model: Callable[..., Path], tmp_path: Path) -> None:
    plan = ["export", "mergekit", "--model-id", "some/model", "--output", tmp_path / "merge.yaml", "--plan"]
    run(*plan, variants / "ShortGPT_remove_1" / "plan.json", "--base", make_model())
    assert "some/model" in (tmp_path / "merge.yaml").read_text()
    assert "exists already" in run(*plan, variants / "ShortGPT_remove_1" / "plan.json", code=1).stderr
    plan = ["export", "mergekit", "--model-id", "some/model", "--output", tmp_path / "other.yaml", "--plan"]
    assert "in width" in run(*plan, variants / "Magnitude_3000" / "plan.json", code=1).stderr

    missing = run(*plan, variants / "Dense" / "plan.json", code=1).stderr
    assert "Dense has no plan, since its mechanism is dense" in missing

    make("Magnitude_3000", {"uniform": True}, make_model(), tmp_path, tmp_path / "even")
    padded = run_json("export", "uniform", "--model", tmp_path / "even", "--output", tmp_path / "uniform")
    assert padded["parameters"]["added"] == 0
    again = run("export", "uniform", "--model", tmp_path / "even", "--output", tmp_path / "uniform", code=1)
    assert "--force" in again.stderr

    torch.save(torch.nn.Linear(2, 2), tmp_path / "pruned_model.bin")
    legacy = ["export", "legacy", "--legacy-bin", tmp_path / "pruned_model.bin", "--config", make_model()]
    refused = run(*legacy, "--output", tmp_path / "legacy", code=1)
    assert refused.stdout == "" and refused.stderr.count("\n") == 1 and "not read" in refused.stderr
    torch.save(load_file(make_model() / "model.safetensors"), tmp_path / "pruned_model.bin")
    assert run_json(*legacy, "--output", tmp_path / "legacy")["tensors"] > 30


def test_methods_are_all_listed() -> None:
    listed = run_json("methods")
    assert [method["name"] for method in listed["methods"]] == list(METHODS)
    assert listed["mechanisms"]["width"]["allocation"]["default"] == "uniform"
    assert [allocation["name"] for allocation in listed["allocations"]] == list(ALLOCATIONS)
    text = run("methods").stdout
    assert "LLMPruner" in text and "freeze_top_layers=0" in text


def test_no_command_lacks_help() -> None:
    names = [command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands]
    for name in [*names, "export mergekit", "export uniform", "export legacy"]:
        assert "Usage" in run(*name.split(), "--help").stdout
    assert run("methods", "--jsno", code=2).stdout == ""


def test_light_commands_import_neither_torch_nor_transformers(
    variants: Path, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    dense = variants / "Dense"
    commands = [
        ["--help"],
        ["prune", "--help"],
        ["methods", "--json"],
        ["analyze", "--model", dense, "--base", make_model(), "--output", tmp_path / "analysis"],
        ["summarize", variants, "--output", tmp_path / "summary"],
        ["compare", variants],
        ["show", variants],
        ["table", "--result-dir", variants, "--output", tmp_path / "summary.xlsx"],
    ]
    for arguments, (stdout, heavy, code) in zip(commands, heavy_imports(*commands), strict=True):
        assert stdout and heavy == "[]" and code == 0, arguments


def test_the_entry_point(make_model: Callable[..., Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "llm_pruner.cli", "prune", "--model", make_model(), "--output", tmp_path / "out"]
    command += ["--strategy", "magnitude", "--ratio", "0.3", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert json.loads(done.stdout)["variant"] == "Magnitude_3000" and "cutting" in done.stderr
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.count("\n") == 1


# --- a method of someone's own, and the shell ------------------------------------------------------------------

OWN = """
from llm_pruner import BasePruner

class LastPruner(BasePruner):
    \"\"\"The last layers go.\"\"\"

    def compute_layer_scores(self, eval_data):
        return [{"index": layer.index, "score": -float(layer.index)} for layer in self.stream(eval_data)]
"""


def test_a_class_of_ones_own(
    make_model: Callable[..., Path], token_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_pruners.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    making = ["--model", make_model(), "--name", "Mine_remove_2", "--calibration", token_file]
    output = tmp_path / "out"
    run("prune", *making, "--option", "method=own_pruners:LastPruner", "-o", output)
    assert read_json(output / "plan.json")["kept_layers"] == [0, 1]
    assert read_json(output / "pruning.json")["method"] == "Mine"
    wrong = run("prune", *making, "--option", "method=own_pruners:LastPrunner", "-o", tmp_path / "none", code=1)
    assert "'own_pruners' has no class 'LastPrunner'; did you mean 'LastPruner'?" in wrong.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("typed", "offered"), [("sLE", "sLEB"), ("X", "")])
def test_the_shell_completes_methods(typed: str, offered: str) -> None:
    asked = {"COMP_WORDS": f"llm-pruner prune --strategy {typed}", "COMP_CWORD": "3"}
    environment = {**os.environ, "_LLM_PRUNER_COMPLETE": "complete_bash", **asked}
    llm_pruner = Path(sys.executable).with_name("llm-pruner")
    done = subprocess.run([llm_pruner], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == offered

"""What may be written where, and what a base model must be before any work."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from llm_pruner.cli import app
from llm_pruner.cli.common import DAMAGED
from llm_pruner.models.doctor import examine
from llm_pruner.models.shapes import check_base
from llm_pruner.objects.pruners import AVSSPruner
from llm_pruner.system.errors import CheckpointError, ConfigError, PrunerError
from llm_pruner.system.files import staged_directory
from llm_pruner.system.ownership import MARKER
from llm_pruner.system.places import refuse_inputs
from llm_pruner.variants.grammar import resolve
from llm_pruner.variants.make import prune
from llm_pruner.variants.score import compute_scores
from llm_pruner.workflow.config import load_config
from llm_pruner.workflow.preflight import preflight
from tests.tiny.text import write_random_tokens

COMMANDS = {
    "evaluate": ("tasks/x", "evaluate --model {model} --metrics zeroshot --tasks builtin_word --output {out}"),
    "evaluate record": ("perplexity.json", "evaluate --model {model} --output {out}"),
    "score": ("s.json", "score --model {model} --strategy magnitude --output {out}/s.json"),
    "prune plan": ("plan.json", "prune --model {model} --strategy magnitude --structure 2:4 --output {out} --force"),
    "prune record": (
        "pruning.json",
        "prune --model {model} --strategy magnitude --structure 2:4 --output {out} --force",
    ),
    "prune model": ("model/x", "prune --model {model} --strategy magnitude --structure 2:4 --output {out} --force"),
    "uniform": ("x", "export uniform --model {model} --output {out} --force"),
    "legacy": ("x", "export legacy --legacy-bin {model}/model.safetensors --config {model} --output {out} --force"),
    "evaluate tokens": ("evaluation.safetensors", "evaluate --model {model} --output {out}"),
    "prune tokens": (
        "calibration.safetensors",
        "prune --model {model} --strategy wanda --structure 2:4 --length 8 --output {out} --force",
    ),
    "prune scores": (
        "scores/Magnitude.json",
        "prune --model {model} --strategy magnitude --ratio 0.1 --output {out} --force",
    ),
    "search": (
        "search.json",
        "prune --model {model} --name GQA_2000 --option split=search --output {out} --force",
    ),
    "step": ("step.json", "step nf4 --model {model} --output {out} --force"),
    "quantize": ("step.json", "quantize --model {model} --output {out} --force"),
    "heal": (
        "step.json",
        "heal --model {model} --step lora --tokens {model}/model.safetensors --held-out {model}/config.json "
        "--output {out} --force",
    ),
    "fetch": ("model.json", "fetch {model} --output {out} --force"),
    "quick": ("before/perplexity.json", "--model {model} --strategy magnitude --output {out} --force"),
    "distill train": ("record.json", "distill train --output {out} --force"),
    "distill prune": ("record.json", "distill prune --teacher {model} --dataset builtin --output {out} --force"),
    "distill ptq": ("record.json", "distill ptq --model {model} --output {out} --force"),
    "distill qat": (
        "record.json",
        "distill qat --teacher {model} --model {model} --dataset builtin --output {out} --force",
    ),
    "distill report": ("final_report.json", "distill report --runs {model} --dataset builtin --output {out} --force"),
}
"""A file that does not belong to this tool, under a name that a command writes: it stays, forced or not."""
FILES = {
    "table": ("t.csv", "table --result-dir {runs} --output {out}/t.csv"),
    "workbook": ("t.xlsx", "table --result-dir {runs} --output {out}/t.xlsx"),
    "plot": ("layer_reduction.png", "plot --result-dir {runs} --output {out}"),
    "summarize": ("s.txt", "summarize {runs} --output {out}/s"),
    "analyze": ("model_comparison.json", "analyze --model {runs}/V/model --base {model} --output {out}"),
    "analyze-batch": (
        "V/analysis/model_structure.json",
        "analyze-batch --models-dir {runs} --base-model {model} --output-dir {out}",
    ),
    "analyze-batch summary": (
        "models_structure_summary.txt",
        "analyze-batch --models-dir {runs} --base-model {model} --output-dir {out} --merge-results",
    ),
    "mergekit": ("m.yaml", "export mergekit --plan {runs}/V/plan.json --model-id a/b --output {out}/m.yaml"),
}
"""A file that this tool may have made: it stays unless ``--force`` is given, and what others made stays anyway."""
SHOWN = {
    "search": ("split_search.png", "prune --model {model} --name GQA_2000 --option split=search --output {out}"),
    "heal": (
        "healing.png",
        "heal --model {model} --step lora --tokens {model}/model.safetensors --held-out {model}/config.json "
        "--output {out}",
    ),
    "quick": ("gains.json", "--model {model} --strategy magnitude --output {out}"),
    "quick figure": ("figures/right_answers.png", "--model {model} --strategy magnitude --output {out}"),
    "train": ("curves.png", "distill train --output {out}"),
    "report": ("final_report.png", "distill report --runs {model} --dataset builtin --output {out}"),
}
"""The same, of commands that take long when they are forced."""
INPUTS = (
    "score --model {model} --strategy magnitude --output {model}/config.json",
    "prune --model {model} --strategy magnitude --structure 2:4 --output {parent} --force",
    "quantize --model {model} --output {parent} --force",
    "export uniform --model {model} --output {model} --force",
    "export uniform --model {model} --output {parent} --force",
    "export uniform --model {model} --output {model}/inside --force",
    "evaluate --model {model} --output {model}",
    "fetch {parent} --output {parent} --force",
    "analyze --model {model} --base {model} --output {model} --force",
    "export mergekit --plan {parent}/plan.json --model-id a/b --output {parent}/plan.json --force",
    "summarize {parent} --output {parent}/analysis/model_comparison --force",
    "score --model {model} --strategy magnitude --calibration {tokens} --output {tokens} --force",
    "score --model {model} --strategy wanda --calibration {tokens} --samples 1 --output {parent}/s.json",
    "prune --model {model} --strategy wanda --structure 2:4 --calibration {tokens} --samples 1 --output {parent}",
    "distill report --runs {parent} --dataset builtin --output {model} --force",
)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", COMMANDS)
def test_files_of_others_survive(command: str, tmp_path: Path, make_model: Callable[..., Path]) -> None:
    name, line = COMMANDS[command]
    out = tmp_path / "u"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("{}")
    result = CliRunner().invoke(app, line.format(model=make_model(), out=out).split())
    assert result.exit_code == 1
    assert str(out) in result.output
    assert contents(out) == {name: b"{}"}


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("line", INPUTS)
def test_inputs_survive(line: str, marked: bool, tmp_path: Path, make_model: Callable[..., Path]) -> None:
    model = tmp_path / "b" / "model"
    shutil.copytree(make_model(), model)
    if marked:
        (model / MARKER).touch()
        (model.parent / MARKER).touch()
    tokens = write_random_tokens(model.parent)
    (model.parent / "plan.json").write_text("{}")
    before = contents(tmp_path)
    result = CliRunner().invoke(app, line.format(model=model, parent=model.parent, tokens=tokens).split())
    assert result.exit_code == 1
    assert "input" in result.output
    assert contents(tmp_path) == before


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., Path]) -> Path:
    """A folder with one pruned model."""
    folder = tmp_path_factory.mktemp("doors") / "runs"
    line = f"prune --model {make_model()} --strategy magnitude --ratio 0.1 --output {folder}/V"
    assert CliRunner().invoke(app, line.split()).exit_code == 0
    return folder


@pytest.mark.parametrize("command", [*FILES, *SHOWN])
def test_files_are_replaced_only_by_force(
    command: str, runs: Path, tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    name, line = {**SHOWN, **FILES}[command]
    out = tmp_path / "u"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    arguments = line.format(model=make_model(), runs=runs, out=out).split()
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert str(out / name) in result.output
    assert contents(out) == {name: b"mine"}
    if command not in FILES:
        return
    forced = CliRunner().invoke(app, [*arguments, "--force"])
    assert forced.exit_code == 1
    assert str(out / name) in forced.output
    assert contents(out) == {name: b"mine"}
    (out / name).unlink()
    if command == "mergekit":  # a plan of widths is none for it
        return
    assert CliRunner().invoke(app, arguments).exit_code in (0, DAMAGED)
    made = (out / name).read_bytes()
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1
    assert "exists already" in again.output
    assert (out / name).read_bytes() == made
    forced = CliRunner().invoke(app, [*arguments, "--force"])
    assert forced.exit_code in (0, DAMAGED)
    assert f"{out / name}: replaced" in forced.output


def test_what_is_replaced_is_named_and_then_counted(
    runs: Path, tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    twice = f"analyze --model {runs}/V --base {make_model()} --output {tmp_path} --force".split()
    assert "replaced" not in CliRunner().invoke(app, twice).output
    said = CliRunner().invoke(app, twice).output
    assert said.count(": replaced") == len(list(tmp_path.iterdir())) == 5 and " more" not in said
    model = tmp_path / "model"
    with staged_directory(model) as staged:
        for index in range(13):
            (staged / f"{index:02}").touch()
    said = CliRunner().invoke(app, f"fetch {make_model()} --output {tmp_path} --force".split()).output
    assert said.count(": replaced") == 10 and f"{model}/09: replaced" in said and "and 3 more" in said


def test_every_command_that_writes_is_in_a_table() -> None:
    def leaves(group: Any, name: str) -> dict[str, Any]:
        commands = getattr(group, "commands", None)
        if commands is None:
            return {name: group}
        return {path: leaf for key, one in commands.items() for path, leaf in leaves(one, f"{name} {key}").items()}

    writing = {
        name.strip()
        for name, command in leaves(typer.main.get_command(app), "").items()
        if {"output", "output_dir"} & {parameter.name for parameter in command.params}
    }
    lines = [line for table in (COMMANDS, FILES, SHOWN) for _, line in table.values()]
    assert len(writing) > 10
    assert {name for name in writing if not any(f"{line} ".startswith(f"{name} ") for line in lines)} == set()


def test_links_to_inputs_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for output in ("link", "link/x", "real/x", "."):
        with pytest.raises(PrunerError, match="input"):
            refuse_inputs([tmp_path / output], [tmp_path / "real"])
    refuse_inputs([tmp_path / "other"], [tmp_path / "real"])


def break_model(folder: Path, how: str) -> str:
    """Damage a model; what the message must name."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    if how == "no head":
        name = "lm_head.weight"
        del tensors[name]
    elif how == "no norm":
        name = "model.norm.weight"
        del tensors[name]
    elif how == "no layer":
        name = "model.layers.1."
        tensors = {key: value for key, value in tensors.items() if not key.startswith(name)}
    elif how == "shape":
        name = "model.norm.weight"
        tensors[name] = torch.ones(3)
    else:
        name = "model.norm.weight"
        tensors[name][0] = math.inf
    save_file(tensors, file, metadata={"format": "pt"})
    return name


@pytest.mark.parametrize("how", ["no head", "no norm", "no layer", "shape", "infinite"])
def test_base_of_other_weights_is_refused(how: str, tmp_path: Path, make_model: Callable[..., Path]) -> None:
    model = tmp_path / "model"
    shutil.copytree(make_model(tie_word_embeddings=False), model)
    check_base(model)
    name = break_model(model, how)
    with pytest.raises(CheckpointError, match=name):
        check_base(model)
    out = tmp_path / "out"
    sparse, scored = resolve("Magnitude_2of4"), resolve("Magnitude_1000").score
    assert scored
    for door in (
        lambda: prune(sparse, model, out),
        lambda: compute_scores(scored, model, None, out / "s.json"),
        lambda: AVSSPruner(str(model)).prune_and_save([1], out),
    ):
        with pytest.raises(CheckpointError, match=name):
            door()
        assert not out.exists()
    assert name in next(check.reason for check in examine(model, device="cpu") if check.outcome == "failed")
    short: dict[str, Any] = {"calibration": {"length": 16}, "perplexity": {"window": 16}}
    short |= {"efficiency": {"prompt_length": 8, "new_tokens": 8}}
    config, variants = load_config({"model": {"source": str(model)}, "variants": ["Dense"], **short})
    if how == "infinite":  # weights are not read while a configuration is checked
        preflight(config, variants.values())
    else:
        with pytest.raises(ConfigError, match=name):
            preflight(config, variants.values())
    for line in ("prune --structure 2:4 --output {out}", "score --output {out}/s.json"):
        arguments = line.format(out=tmp_path / "out").split()
        result = CliRunner().invoke(app, [*arguments, "--model", str(model), "--strategy", "magnitude"])
        assert result.exit_code == 1
        assert name in result.output
        assert not (tmp_path / "out").exists()

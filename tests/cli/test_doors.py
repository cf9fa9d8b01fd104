"""What may be written where, and what a base model must be before any work."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from llm_pruner.cli import app
from llm_pruner.models.shapes import check_base
from llm_pruner.system.errors import CheckpointError, PrunerError
from llm_pruner.system.files import MARKER, refuse_inputs, staged_directory

COMMANDS = {
    "evaluate": ("tasks/x", "evaluate --model {model} --metrics zeroshot --tasks builtin_continuation --output {out}"),
    "evaluate record": ("perplexity.json", "evaluate --model {model} --output {out}"),
    "score": ("s.json", "score --model {model} --strategy magnitude --output {out}/s.json"),
    "prune plan": ("plan.json", "prune --model {model} --strategy magnitude --structure 2:4 --output {out} --force"),
    "prune record": (
        "pruning.json",
        "prune --model {model} --strategy magnitude --structure 2:4 --output {out} --force",
    ),
    "prune model": ("model/x", "prune --model {model} --strategy magnitude --structure 2:4 --output {out} --force"),
    "uniform": ("x", "export uniform --model {model} --output {out} --force"),
}
INPUTS = (
    "score --model {model} --strategy magnitude --output {model}/config.json",
    "prune --model {model} --strategy magnitude --structure 2:4 --output {parent} --force",
    "quantize --model {model} --output {parent} --force",
    "export uniform --model {model} --output {model} --force",
    "export uniform --model {model} --output {parent} --force",
    "export uniform --model {model} --output {model}/inside --force",
    "evaluate --model {model} --output {model}",
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
    before = contents(tmp_path)
    result = CliRunner().invoke(app, line.format(model=model, parent=model.parent).split())
    assert result.exit_code == 1
    assert "input" in result.output
    assert contents(tmp_path) == before


def test_links_to_inputs_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for output in ("link", "link/x", "real/x", "."):
        with pytest.raises(PrunerError, match="input"):
            refuse_inputs([tmp_path / output], [tmp_path / "real"])
    refuse_inputs([tmp_path / "other"], [tmp_path / "real"])


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("fatal", [1, 2])
def test_killed_while_replacing_leaves_one(exchange: bool, fatal: int, tmp_path: Path) -> None:
    target = tmp_path / "model"
    with staged_directory(target) as staged:
        (staged / "old").touch()
    script = f"""
import os
from pathlib import Path
from llm_pruner.system import files
if not {exchange}:
    files._exchange = lambda one, other: False
rename, calls = Path.rename, []
def dying(self, to):
    calls.append(to)
    if len(calls) == {fatal}:
        os._exit(9)
    return rename(self, to)
Path.rename = dying
with files.staged_directory({str(target)!r}) as staged:
    (staged / "new").touch()
"""
    code = subprocess.run([sys.executable, "-c", script], check=False).returncode
    assert code == (0 if exchange and fatal == 2 else 9)
    with pytest.raises(RuntimeError), staged_directory(target):
        raise RuntimeError
    assert {path.name for path in target.iterdir()} in ({"old", MARKER}, {"new", MARKER})
    assert list(tmp_path.iterdir()) == [target]


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
    for line in ("prune --structure 2:4 --output {out}", "score --output {out}/s.json"):
        arguments = line.format(out=tmp_path / "out").split()
        result = CliRunner().invoke(app, [*arguments, "--model", str(model), "--strategy", "magnitude"])
        assert result.exit_code == 1
        assert name in result.output
        assert not (tmp_path / "out").exists()

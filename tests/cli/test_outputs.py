"""No command, by any of its options, replaces what the tool did not make or what it reads.

Commands and options come from the command line itself, so a new one is tested without being named here. It needs an
entry in ``VALUES`` only if it requires a value of a new name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.models import ArgumentInfo, OptionInfo
from typer.testing import CliRunner
from typer.utils import get_params_from_function

from llm_pruner.cli import app
from llm_pruner.system import outputs
from llm_pruner.system.ownership import MARKER
from tests.tiny.text import write_random_tokens

VALUES = {"strategy": "magnitude", "model_id": "a/b", "step": "kd", "name": "kd"}
"""By parameter: what to give where a value is required."""
GIVEN = {"strategy": "magnitude", "ratio": "0.1", "dataset": "builtin"}
"""The same where it is required in one form or another."""
READ = {"plan", "runs"}
"""Paths that are read, though the command line does not ask that they exist."""
TEXTS = {"calibration"}
"""Texts that may be the name of a file to read."""
RUNS = {"result_dir", "models_dir", "places", "dirs", "runs"}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a command."""

    name: str
    info: OptionInfo | ArgumentInfo
    annotation: Any
    required: bool

    @property
    def is_path(self) -> bool:
        return "Path" in str(self.annotation)

    @property
    def is_output(self) -> bool:
        return self.is_path and not self.info.exists and self.name not in READ

    def written(self, value: object) -> list[str]:
        if isinstance(self.info, ArgumentInfo):
            return [str(value)]
        declared = [each for each in self.info.param_decls or () if each.startswith("--")]
        return [(declared or [f"--{self.name.replace('_', '-')}"])[0], str(value)]


def commands(group: typer.Typer, prefix: str = "") -> Iterator[tuple[str, list[Parameter]]]:
    """The name of each command, and its parameters; the command without a name is ''."""
    infos = [("", group.registered_callback.callback)] if group.registered_callback else []
    for info in group.registered_commands:
        assert info.callback
        infos.append((info.name or info.callback.__name__.replace("_", "-"), info.callback))
    for name, callback in infos:
        assert callback
        parameters = [
            Parameter(meta.name, meta.default, meta.annotation, meta.default.default is ...)
            for meta in get_params_from_function(callback).values()
            if isinstance(meta.default, OptionInfo | ArgumentInfo)
        ]
        yield f"{prefix}{name}", parameters
    for nested in group.registered_groups:
        assert nested.typer_instance
        yield from commands(nested.typer_instance, f"{nested.name or nested.typer_instance.info.name} ")


COMMANDS = {name: parameters for name, parameters in commands(app) if any(each.is_output for each in parameters)}
OPTIONS = [(name, each.name) for name, parameters in COMMANDS.items() for each in parameters if each.is_output]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., Path]) -> Path:
    """A folder with something to read for every parameter."""
    root = tmp_path_factory.mktemp("tree")
    for name in ("model", "base", "base_model", "teacher", "reference", "config", "source"):
        shutil.copytree(make_model(), root / name / "model")
    line = f"prune --model {root}/base/model --strategy magnitude --ratio 0.1 --output {root}/runs/V"
    assert CliRunner().invoke(app, line.split()).exit_code == 0
    shutil.copytree(root / "runs" / "V" / "scores", root / "scores")
    tokens = write_random_tokens(root)
    for name in ("calibration", "tokens", "held_out"):
        (root / name).mkdir()
        shutil.copyfile(tokens, root / name / "tokens.safetensors")
    (root / "legacy_bin").write_bytes(b"")
    return root


def read_by(parameter: Parameter, root: Path) -> Path | None:
    """What to give for a parameter that is read."""
    named = {
        "plan": root / "runs" / "V" / "plan.json",
        "scores": root / "scores" if not parameter.info.file_okay else root / "scores" / "Magnitude.json",
        "legacy_bin": root / "legacy_bin",
        **dict.fromkeys(RUNS, root / "runs"),
    }
    if parameter.name in named:
        return named[parameter.name]
    if parameter.name in TEXTS or (parameter.is_path and not parameter.info.dir_okay):
        return root / parameter.name / "tokens.safetensors"
    if parameter.is_path or (parameter.name == "source" and isinstance(parameter.info, ArgumentInfo)):
        return root / parameter.name / "model"
    return None


def line(command: str, option: str, output: Path, root: Path) -> tuple[list[str], list[Path]]:
    """A command line that writes to ``output``, as forced as it can be, and what it reads."""
    words, inputs = command.split(), []
    for parameter in COMMANDS[command]:
        if parameter.is_output:
            words += parameter.written(output if parameter.name == option else root.parent / f"other {parameter.name}")
        elif path := read_by(parameter, root):
            words += parameter.written(path)
            inputs.append(path)
        elif parameter.name in GIVEN:
            words += parameter.written(GIVEN[parameter.name])
        elif parameter.required:
            words += parameter.written(VALUES[parameter.name])
        elif parameter.name in ("force", "merge_results"):
            words += parameter.written("")[:1]
    return words, inputs


class Stopped(Exception):
    """A command got as far as its work."""


@dataclass
class Claim:
    """What a command was about to write, read and replace."""

    folders: list[Path]
    files: list[Path]
    inputs: list[Path]
    replaced: list[Path] | None


@pytest.fixture(scope="module")
def parser() -> Any:
    return typer.main.get_command(app)


@pytest.fixture
def attempt(monkeypatch: pytest.MonkeyPatch, parser: Any) -> Callable[..., tuple[Any, Claim]]:
    """Runs a command up to its work."""
    claim = Claim([], [], [], None)
    refuse_inputs, refuse_foreign, listed = outputs.refuse_inputs, outputs.refuse_foreign, outputs._listed

    def noting_inputs(wanted: list[Path], inputs: Any) -> None:
        claim.inputs += (inputs := list(inputs))
        refuse_inputs(wanted, inputs)

    def noting_kinds(path: Path, *, folder: bool) -> None:
        (claim.folders if folder else claim.files).append(path)
        refuse_foreign(path, folder=folder)

    def stopping(*places: Any) -> list[Path]:
        claim.replaced = listed(*places)
        raise Stopped

    # what takes long, and has no part in this
    monkeypatch.setattr("typer.testing._get_command", lambda _: parser)
    monkeypatch.setattr("llm_pruner.system.provenance.package_versions", dict)
    monkeypatch.setattr(outputs, "refuse_inputs", noting_inputs)
    monkeypatch.setattr(outputs, "refuse_foreign", noting_kinds)
    monkeypatch.setattr(outputs, "_listed", stopping)

    def run(words: list[str]) -> tuple[Any, Claim]:
        claim.folders, claim.files, claim.inputs, claim.replaced = [], [], [], None
        return CliRunner().invoke(app, words), claim

    return run


def contents(folder: Path) -> dict[str, str]:
    """Kinds and hashes of all that is in a folder."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[str(path)] = str(path.readlink())
        else:
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found


def name_for(command: str, option: str) -> str:
    output = next(each for each in COMMANDS[command] if each.name == option)
    return "new.csv" if output.info.file_okay and command == "table" else "new"


def test_the_commands_are_found() -> None:
    assert len(OPTIONS) >= 20
    assert {"", "prune", "analyze-batch", "export uniform", "distill report"} <= COMMANDS.keys()


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_every_output_is_claimed_before_the_work_and_with_what_is_read(
    command: str, option: str, tree: Path, tmp_path: Path, attempt: Callable[..., tuple[Any, Claim]]
) -> None:
    output = tmp_path / "here" / name_for(command, option)
    words, inputs = line(command, option, output, tree)
    result, claim = attempt(words)
    assert isinstance(result.exception, Stopped), result.output
    assert claim.folders or claim.files
    for path in (*claim.folders, *claim.files):
        assert path.is_relative_to(output.parent)
    assert claim.replaced == []
    for path in inputs:
        assert any(own.is_relative_to(path) or path.is_relative_to(own) for own in claim.inputs), path
    assert not output.parent.exists()


def plant(path: Path, kind: str) -> None:
    """Put something of the user's at a place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "file":
        path.write_bytes(b"mine")
    elif kind == "link":
        (path.parent / "mine").write_bytes(b"mine")
        path.symlink_to("mine")
    elif kind == "broken link":
        path.symlink_to("nowhere")
    else:
        path.mkdir()
        (path / "mine").write_bytes(b"mine")
    if kind == "marked":
        (path / MARKER).write_text('{"": "made by llm-pruner", "state": "whole", "files": {"config.json": "2 00"}}')
    elif kind == "marked earlier":
        (path / MARKER).touch()


@pytest.mark.parametrize("kind", ["file", "folder", "marked", "marked earlier", "link", "broken link"])
@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_nothing_of_the_users_is_replaced(
    command: str, option: str, kind: str, tree: Path, tmp_path: Path, attempt: Callable[..., tuple[Any, Claim]]
) -> None:
    output = tmp_path / "here" / name_for(command, option)
    words, _ = line(command, option, output, tree)
    _, claim = attempt(words)
    for place in (*claim.folders, *claim.files):
        shutil.rmtree(output.parent, ignore_errors=True)
        plant(place, kind)
        before = contents(tmp_path)
        result, _ = attempt(words)
        assert contents(tmp_path) == before
        if result.exit_code == 2:  # the command line itself refuses a file for a folder
            assert place == output
            continue
        assert result.exit_code == 1, place
        assert isinstance(result.exception, SystemExit), place
        assert str(place) in result.output
        assert len(result.output.splitlines()) == 1
        assert "choose" in result.output or "name the place" in result.output


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_nothing_that_is_read_is_replaced(
    command: str,
    option: str,
    tree: Path,
    tmp_path: Path,
    attempt: Callable[..., tuple[Any, Claim]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, inputs = line(command, option, tmp_path, tree)
    before = contents(tree)
    for number, path in enumerate(inputs):
        link = tmp_path / f"link{number}"
        link.symlink_to(path)
        monkeypatch.chdir(path if path.is_dir() else path.parent)
        for output in (
            path,
            path.parent,
            path.parent.parent,
            path / "inside",
            link,
            link / "inside",
            path.parent / ".." / path.parent.name / path.name,
            Path(),
            Path(".."),
        ):
            result, claim = attempt(line(command, option, output, tree)[0])
            if isinstance(result.exception, Stopped):
                assert not any(place.resolve().is_relative_to(tree) for place in claim.replaced or ())
                for place in (*claim.folders, *claim.files):
                    assert not os.path.lexists(place)
            else:
                assert result.exit_code, output
                assert isinstance(result.exception, SystemExit), output
            assert contents(tree) == before

"""Configuration files that are no YAML, or not what they seem: file, line and column, and before Snakemake speaks."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from llm_pruner.system.errors import ConfigError
from llm_pruner.workflow.config import load_config
from llm_pruner.workflow.config_files import check_files, located
from llm_pruner.workflow.snakemake_private import files_to_read
from tests.tiny import ROOT
from tests.tiny.workflows import Workflow

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
REFUSED = {
    "empty": ("", "is empty; at least 'variants' is required"),
    "comments alone": ("# variants:\n", "is empty"),
    "a list": ("\n- a\n", "my.yaml, line 2, column 1: must be keys and values, not a list"),
    "a text": ("variants", "my.yaml, line 1, column 1: must be keys and values, not 'variants'"),
    "open bracket": ("variants: [Dense\nmodel: {}\n", "my.yaml, line 2, column 6: while parsing a flow sequence"),
    "tab": ("variants:\n\t- Dense\n", "my.yaml, line 2, column 1: while scanning for the next token, found character"),
    "colons": ("model: x: y\n", "my.yaml, line 1, column 9: mapping values are not allowed here"),
    "two documents": ("seed: 1\n---\nseed: 2\n", "line 2, column 1: expected a single document in the stream"),
    "unknown alias": ("seed: *other\n", "line 1, column 7: found undefined alias"),
    "control character": ("seed: 1\nx: a\x01b\n", r"line 2, column 5: character .* is not allowed in YAML"),
    "key twice": ("seed: 1\nmodel: {}\nseed: 1\n", "line 3, column 1: seed: stands here again, first in line 1; leave"),
    "inner key twice": (
        "model:\n  builtin:\n    steps: 1\n    'steps': 2\n",
        "line 4, column 5: model.builtin.steps: stands here again, first in line 3",
    ),
    "key twice in one line": (
        "model: {dtype: auto, dtype: auto}\n",
        "column 22: model.dtype: stands here again",
    ),
    "option twice": (
        "variants:\n- GQA_2000: {samples: 1}\n- GQA_3000: {samples: 1, samples: 2}\n",
        "line 3, column 26: variants[1].GQA_3000.samples: stands here again",
    ),
    "key twice in JSON": ('{\n\t"seed": 1,\n\t"seed": 2\n}', "line 3, column 2: seed: stands here again"),
    "a list as key": ("? [a]\n: 1\n", "line 1, column 3: the file: a key must be text, not a list"),
    "a section as key": ("model: {{a: 1}: 2}\n", "line 1, column 9: model: a key must be text, not keys and values"),
    "object": ("seed: !!python/object/apply:os.system [ls]\n", "line 1, column 7: seed: 'tag:yaml.org,2002:python"),
    "tag": ("seed: !mine 1\n", "line 1, column 7: seed: '!mine' is no type of a configuration; leave it out"),
    "date": ("model: {revision: 2024-01-01}\n", "'2024-01-01' is read as a date; put it in quotes"),
    "base 60": (
        "variants: [{GQA_2000: {split: 2:8}}]\n",
        "variants[0].GQA_2000.split: 2:8 is read as a number to the base 60; put it in quotes",
    ),
    "digits": (f"seed: {'9' * 5000}\n", "seed: a number of 5,000 digits"),
    "aliases without end": (BOMB, "keys and values, at most 100,000 are read"),
    "a loop": ("model: &m {builtin: *m}\n", "line 1, column 8: model.builtin: contains itself"),
    "depth": ("[" * 5000, "nested too deeply"),
}


def refused(content: str | bytes, folder: Path) -> str:
    path = folder / "my.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as caught:
        check_files([path])
    message = str(caught.value)
    assert message.startswith(f"{path}: 1 problem\n") and "Traceback" not in message and len(message) < 1000
    return message


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_files_that_are_refused(content: str, message: str, tmp_path: Path) -> None:
    pattern = message if ".*" in message else re.escape(message)
    assert re.search(pattern, refused(content, tmp_path).replace(f"{tmp_path}/", ""))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "utf-16-be", "latin-1", "cp1252"])
def test_other_encodings_are_refused_with_line_and_column(encoding: str, tmp_path: Path) -> None:
    wide = encoding.startswith("utf")
    message = refused("variants:\n- Dense # für\n".encode(encoding), tmp_path)
    assert "UTF-8" in message
    assert f"my.yaml, line {1 if wide else 2}, column " in message
    if not wide:
        assert "line 2, column 12: byte 0xfc is not UTF-8; save the file as UTF-8" in message


def test_every_problem_of_a_file_is_told() -> None:
    with pytest.raises(ConfigError) as caught:
        check_files(["no such file"])
    assert "no such file: cannot be read (No such file or directory)" in str(caught.value)


def test_all_duplicates_at_once(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("seed: 1\nseed: 2\nmodel: {dtype: auto, dtype: auto}\n")
    with pytest.raises(ConfigError) as caught:
        check_files([tmp_path / "my.yaml"])
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffvariants: [Dense]\nseed: 1\n",
        "variants: [Dense]\r\nseed: 1\r\n",
        '{\n\t"variants": ["Dense"],\n\t"seed": 1\n}\n',
        "x: &x {seed: 2}\nvariants: [Dense]\n<<: *x\nseed: 1\n",
        "x: &x [Dense]\nvariants: *x\nseed: 1e0\n",
    ],
    ids=["mark", "Windows", "JSON", "merged", "alias"],
)
def test_files_that_are_read(content: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(content, encoding="utf-8", newline="")
    places = check_files([path])
    line = next(number for number, text in enumerate(content.splitlines(), 1) if "seed" in text and "&" not in text)
    assert places["seed"] == f"{path}, line {line}"


def test_a_template_is_left_to_snakemake(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("__use_yte__: true\n?if True:\n  seed: 1\n?if True:\n  seed: 2\n")
    check_files([tmp_path / "my.yaml"])


@pytest.mark.parametrize(
    "path", [ROOT / "config.yaml", *sorted((ROOT / "configs").glob("*.yaml"))], ids=lambda p: p.stem
)
def test_ready_made_configs_pass_and_every_key_has_its_line(path: Path) -> None:
    places = check_files([path])
    lines = path.read_text().splitlines()

    def visit(value: Any, place: str) -> None:
        for key, inner in value.items() if isinstance(value, dict) else ():
            where = f"{place}.{key}".removeprefix(".")
            assert str(key) in lines[int(places[where].rpartition(" ")[2]) - 1]
            visit(inner, where)

    visit(yaml.safe_load(path.read_text()), "")


def test_problems_are_told_with_the_line_of_their_key(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("model:\n  dtype: float31\nvariants:\n- Dense\n- GQA_20\n")
    second.write_text("\nmodel:\n  dtype: float33\n  builtin: {step: 1}\nzero_shot: {}\n")
    places = check_files([first, second])
    raw = {**yaml.safe_load(first.read_text()), **yaml.safe_load(second.read_text()), "seed": -1}
    with pytest.raises(ConfigError) as caught:
        load_config(raw)
    found = located(caught.value.problems, places)
    begun = ["model.dtype", "model.builtin.step", "seed", "variants[1]"]
    ends = ["(b.yaml, line 3)", "(b.yaml, line 4)", "not -1", "(a.yaml, line 5)"]
    assert len(found) == len(begun)
    for problem, begin, end in zip([line.replace(f"{tmp_path}/", "") for line in found], begun, ends, strict=True):
        assert problem.startswith(f"{begin}: ") and problem.endswith(end)


def test_files_to_read_are_those_snakemake_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("")
    own = SimpleNamespace(overwrite_configfiles=[], configfiles=[])
    named = SimpleNamespace(overwrite_configfiles=[tmp_path / "mine.yaml"], configfiles=[])
    assert files_to_read(own) == []
    assert files_to_read(named) == [str(tmp_path / "mine.yaml")]
    (tmp_path / "config.yaml").write_text("")
    assert files_to_read(own) == ["config.yaml"]
    assert files_to_read(named) == ["config.yaml", str(tmp_path / "mine.yaml")]
    both = SimpleNamespace(overwrite_configfiles=[tmp_path / "config.yaml"], configfiles=[])
    assert files_to_read(both) == ["config.yaml"]


@pytest.mark.workflow
def test_the_workflow_speaks_before_snakemake(tmp_path: Path) -> None:
    workflow = Workflow.create(tmp_path)
    command = workflow.command("--dry-run")
    (workflow.run_folder / "config.yaml").write_text("variants: [Dense\nseed: 1\n")
    done = subprocess.run(
        command, cwd=workflow.run_folder, env=workflow.environment, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "config.yaml, line 2, column 5: while parsing a flow sequence" in said
    assert "Traceback" not in said and "not valid JSON or YAML" not in said
    assert json.dumps(sorted(path.name for path in workflow.run_folder.iterdir() if path.name != ".snakemake")) == (
        '["config.yaml", "test.txt", "train.txt"]'
    )

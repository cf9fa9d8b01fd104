"""The environments of envs/ hold all that their rules need: every rule runs on its own environment's packages alone."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from llm_pruner.report.figures import FIGURES
from tests.tiny import ROOT
from tests.tiny.classifiers import ENCODERS, write_reviews
from tests.tiny.workflows import Workflow

STAND_IN = Path(__file__).parent / "conda_stand_in"
# kept between runs; what is in an environment's file decides its folder
PREFIX = ROOT / ".test-envs"

pytestmark = [pytest.mark.envs, pytest.mark.workflow]


def conda(workflow: Workflow, monkeypatch: pytest.MonkeyPatch, *arguments: str, check: bool = True) -> str:
    """What a run prints that takes its environments from the stand-in."""
    monkeypatch.setenv("PATH", f"{STAND_IN / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("CONDA_STAND_IN_PYTHON", sys.executable)
    return workflow.run("--sdm", "conda", "--conda-prefix", str(PREFIX), *arguments, check=check).stdout


def rules_run(output: str) -> set[str]:
    return set(re.findall(r"^(?:local)?rule (\w+):", output, re.MULTILINE))


def test_every_rule_runs_on_its_own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built_in = Workflow.create(tmp_path / "builtin")
    ran = rules_run(conda(built_in, monkeypatch))
    assert (built_in.run_folder / "results" / "summary.xlsx").exists()
    local = Workflow.create(tmp_path / "local")
    local.config["model"] = {"source": str(built_in.run_folder / "resources" / "model")}
    ran |= rules_run(conda(local, monkeypatch, "resources/model"))
    fetched = Workflow.create(tmp_path / "fetched")
    fetched.config |= {"model": {"source": "smollm2"}, "variants": ["Dense"]}
    ran |= rules_run(conda(fetched, monkeypatch, "resources/model"))
    classifiers = Workflow.create(tmp_path / "classifiers")
    classifiers.config = {"encoders": ENCODERS, "variants": ["Dense"]}
    write_reviews(classifiers.run_folder / "reviews.csv")
    ran |= rules_run(conda(classifiers, monkeypatch, "classifiers"))
    sources = "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    made = {rule for rule in ran if not rule.startswith("figure_")}
    assert {f"figure_{name}" for name in FIGURES} == ran - made
    assert made - {"all"} == set(re.findall(r"^ *(?:use rule \w+ as|rule) (\w+)", sources, re.MULTILINE))


def test_a_missing_package_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although Snakemake's own environment has it."""
    workflow = Workflow.create(tmp_path / "workflow")
    file = workflow.root / "envs" / "torch.yaml"
    file.write_text(re.sub(r"      - (?!numpy).*\n", "", file.read_text()))
    output = conda(workflow, monkeypatch, "resources/tasks", check=False)
    assert "ModuleNotFoundError: No module named" in output

"""The digest of a job's sources changes when a result could, and only then."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from llm_pruner.steps import STEPS
from llm_pruner.workflow import fingerprint

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "workflow_scripts" / "prune.py"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package that may be edited."""
    copy = tmp_path / "llm_pruner"
    shutil.copytree(ROOT / "llm_pruner", copy)
    monkeypatch.setattr(fingerprint, "_root", lambda: copy)
    return copy


def clear() -> None:
    for function in (fingerprint._imports, fingerprint._tree, fingerprint._normalised, fingerprint._is_module):
        function.cache_clear()


def digests() -> dict[str, str]:
    clear()
    entries = {
        "wanda width": ("llm_pruner.methods.wanda", "llm_pruner.families.width"),
        "wanda sparse": ("llm_pruner.methods.wanda", "llm_pruner.families.sparse"),
        "gqa width": ("llm_pruner.methods.gqa", "llm_pruner.families.width"),
        "shortgpt depth": ("llm_pruner.methods.shortgpt", "llm_pruner.families.depth"),
    }
    return {name: fingerprint.sources_digest(SCRIPT, *modules) for name, modules in entries.items()}


def digests_of_scripts() -> dict[str, str]:
    """Of every script that Snakemake runs, and of the one that takes a step for every step."""
    clear()
    scripts = {path.stem: path for path in SCRIPT.parent.glob("*.py")}
    step = scripts.pop("step")
    modules = {name: implementation.partition(":")[0] for name, implementation in STEPS.items()}
    taken = {f"+{name}": fingerprint.sources_digest(step, module) for name, module in modules.items()}
    return {**taken, **{name: fingerprint.sources_digest(path) for name, path in scripts.items()}}


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("methods/wanda.py", {"wanda width", "wanda sparse"}),
        ("planning/masks.py", {"wanda sparse"}),
        ("planning/allocation.py", {"wanda width", "gqa width"}),
        ("families/depth.py", {"shortgpt depth"}),
        ("scoring/stream.py", {"wanda width", "wanda sparse", "gqa width", "shortgpt depth"}),
        ("methods/__init__.py", set()),
        ("evaluation/perplexity.py", set()),
        ("report/figures.py", set()),
    ],
)
def test_an_edit_reaches_those_who_run_it(package: Path, file: str, changed: set[str]) -> None:
    before = digests()
    with (package / file).open("a") as source:
        source.write("\nEDITED = True\n")
    after = digests()
    assert {name for name in before if before[name] != after[name]} == changed


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("steps/nf4.py", {"+nf4"}),
        ("steps/lora.py", {"+lora"}),
        ("steps/kd.py", {"+kd"}),
        ("steps/healing.py", {"+lora", "+kd"}),
        ("training/heal.py", {"+lora", "+kd"}),
        ("training/adapters.py", {"+lora", "+kd"}),
        ("training/masked.py", {"+lora", "+kd"}),
        ("training/objective.py", {"+lora", "+kd"}),
        ("training/options.py", {"+lora", "+kd"}),
        ("training/fake_quantize.py", {"encoder_ptq", "encoder_qkd"}),
        ("variants/step.py", {"+lora", "+kd", "+nf4"}),
        ("steps/record.py", {"+lora", "+kd", "+nf4", "summary"}),
        ("steps/__init__.py", set()),
    ],
)
def test_an_edit_of_a_step_reaches_those_who_take_it(package: Path, file: str, changed: set[str]) -> None:
    before = digests_of_scripts()
    with (package / file).open("a") as source:
        source.write("\nEDITED = True\n")
    after = digests_of_scripts()
    assert {name for name in before if before[name] != after[name]} == changed


def test_comments_docstrings_and_formatting_do_not_count(package: Path) -> None:
    before = digests()
    path = package / "methods" / "wanda.py"
    text = path.read_text().replace('"""|W_ij|', '"""Another description: |W_ij|')
    path.write_text("# a comment\n\n\n" + text)
    assert digests() == before

"""The digest of a job's sources changes when a result could, and only then."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

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


def digests() -> dict[str, str]:
    for function in (fingerprint._imports, fingerprint._tree, fingerprint._normalised, fingerprint._is_module):
        function.cache_clear()
    entries = {
        "wanda width": ("llm_pruner.methods.wanda", "llm_pruner.families.width"),
        "wanda sparse": ("llm_pruner.methods.wanda", "llm_pruner.families.sparse"),
        "gqa width": ("llm_pruner.methods.gqa", "llm_pruner.families.width"),
        "shortgpt depth": ("llm_pruner.methods.shortgpt", "llm_pruner.families.depth"),
    }
    return {name: fingerprint.sources_digest(SCRIPT, *modules) for name, modules in entries.items()}


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
        ("report/canvas.py", set()),
    ],
)
def test_an_edit_reaches_those_who_run_it(package: Path, file: str, changed: set[str]) -> None:
    before = digests()
    with (package / file).open("a") as source:
        source.write("\nEDITED = True\n")
    after = digests()
    assert {name for name in before if before[name] != after[name]} == changed


def test_comments_docstrings_and_formatting_do_not_count(package: Path) -> None:
    before = digests()
    path = package / "methods" / "wanda.py"
    text = path.read_text().replace('"""|W_ij|', '"""Another description: |W_ij|')
    path.write_text("# a comment\n\n\n" + text)
    assert digests() == before

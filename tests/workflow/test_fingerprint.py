"""The digest of a job's sources changes when a result could, and only then."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from llm_pruner.encoders.steps import STEPS as CLASSIFIER_STEPS
from llm_pruner.mechanisms import MECHANISMS, get_mechanism, job_modules
from llm_pruner.steps import STEPS
from llm_pruner.workflow import fingerprint
from tests.tiny import ROOT
from tests.workflow.edits import changed_by_edit, digests

SCRIPTS = ROOT / "workflow_scripts"
METHOD_OF = {"dense": "dense", "width": "wanda", "depth": "shortgpt", "sparse": "wanda", "slice": "slicegpt"}


def jobs() -> dict[str, tuple[str | Path, ...]]:
    """Entry points of the jobs of one method for each mechanism, as the rules give them: ``score width``."""
    found: dict[str, tuple[str | Path, ...]] = {}
    for name, method in METHOD_OF.items():
        mechanism = get_mechanism(name)
        if mechanism.score_with:
            found[f"score {name}"] = (SCRIPTS / "score.py", f"llm_pruner.methods.{method}", mechanism.score_with)
        found[f"prune {name}"] = (
            SCRIPTS / "prune.py",
            f"llm_pruner.methods.{method}",
            *job_modules(name, get_mechanism(name).Options().model_dump()),
        )
    for name, key, choice in (
        ("width", "allocation", "inverse"),
        ("sparse", "allocation", "owl"),
        ("width", "repair", "rotation"),
        ("sparse", "refine", "dsnot"),
    ):
        options = get_mechanism(name).Options(**{key: choice}).model_dump()
        entries = (SCRIPTS / "prune.py", f"llm_pruner.methods.{METHOD_OF[name]}", *job_modules(name, options))
        found[f"prune {name} by {choice}"] = entries
    measure = get_mechanism("sparse").measure_with
    assert measure
    found["score layers"] = (SCRIPTS / "score.py", "llm_pruner.methods.measures.outliers", measure)
    return found


SCORING = {"score width", "score depth", "score layers"}
WIDTH = {"prune width", "prune width by inverse", "prune width by rotation"}
SPARSE = {"prune sparse", "prune sparse by owl", "prune sparse by dsnot"}
STREAMED = SCORING | SPARSE | {"prune slice", "prune width by rotation"}
ALL = SCORING | WIDTH | SPARSE | {f"prune {name}" for name in METHOD_OF}


def scripts() -> dict[str, tuple[str | Path, ...]]:
    """Every script that Snakemake runs, and those that take a step for every step."""
    found = {path.stem: path for path in SCRIPTS.glob("*.py")}
    tracks = {"": (found.pop("step"), STEPS), "classifier ": (found.pop("encoder_step"), CLASSIFIER_STEPS)}
    taken: dict[str, tuple[str | Path, ...]] = {
        f"{track}+{name}": (script, implementation.partition(":")[0])
        for track, (script, steps) in tracks.items()
        for name, implementation in steps.items()
    }
    return {**taken, **{name: (path,) for name, path in found.items()}}


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("methods/wanda.py", {"score width", "score layers"} | WIDTH | SPARSE),
        ("methods/__init__.py", set()),
        ("scoring/stream.py", STREAMED),
        ("methods/measures/outliers.py", {"score layers"}),
        ("planning/masks.py", SPARSE),
        ("planning/budget.py", WIDTH | SPARSE),
        ("planning/allocations/__init__.py", set()),
        ("planning/allocations/base.py", WIDTH | SPARSE),
        ("planning/allocations/uniform.py", (WIDTH | SPARSE) - {"prune width by inverse", "prune sparse by owl"}),
        ("repairs/__init__.py", set()),
        ("repairs/walk.py", {"prune width by rotation"}),
        ("repairs/rotation.py", {"prune width by rotation"}),
        ("repairs/least_squares.py", set()),
        ("refinements/dsnot.py", {"prune sparse by dsnot"}),
        ("planning/allocations/importance.py", {"prune width by inverse"}),
        ("planning/allocations/inverse.py", {"prune width by inverse"}),
        ("planning/allocations/owl.py", {"prune sparse by owl"}),
        ("planning/slice_widths.py", {"prune slice"}),
        ("surgery/cut.py", WIDTH | {"prune depth"}),
        ("surgery/rotation.py", {"prune slice"}),
        ("mechanisms/dense/prune.py", {"prune dense"}),
        ("mechanisms/width/__init__.py", WIDTH),
        ("mechanisms/width/score.py", {"score width"}),
        ("mechanisms/width/units.py", {"score width"}),
        ("mechanisms/width/options.py", WIDTH),
        ("mechanisms/width/plan.py", WIDTH),
        ("mechanisms/width/prune.py", WIDTH),
        ("mechanisms/depth/__init__.py", {"prune depth"}),
        ("mechanisms/depth/score.py", {"score depth"}),
        ("mechanisms/depth/options.py", {"prune depth"}),
        ("mechanisms/depth/check.py", {"prune depth"}),
        ("mechanisms/depth/prune.py", {"prune depth"}),
        ("mechanisms/sparse/options.py", SPARSE),
        ("mechanisms/sparse/score.py", {"score layers"}),
        ("mechanisms/sparse/prune.py", SPARSE),
        ("mechanisms/slice/prune.py", {"prune slice"}),
        ("mechanisms/job.py", ALL - SCORING),
        ("mechanisms/base.py", ALL),
        ("evaluation/perplexity.py", set()),
        ("report/canvas.py", set()),
    ],
)
def test_an_edit_reaches_those_who_run_it(file: str, changed: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert changed_by_edit(file, jobs(), monkeypatch) == changed


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
        ("training/fake_quantize.py", {"classifier +nf4", "classifier +qkd"}),
        ("variants/step.py", {"+lora", "+kd", "+nf4"}),
        # a record of a pruned model holds those of its steps
        (
            "steps/records.py",
            {"prune", "+lora", "+kd", "+nf4", "summary", "figure_of_run", "page"},
        ),
        ("steps/__init__.py", set()),
    ],
)
def test_an_edit_of_a_step_reaches_those_who_take_it(
    file: str, changed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert changed_by_edit(file, scripts(), monkeypatch) == changed


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [
        ('"""|W_ij|', '"""Another description: |W_ij|', False),
        ("from __future__", "# a comment\n\n\nfrom __future__", False),
        ("from __future__", "EDITED = True\nfrom __future__", True),
    ],
)
def test_comments_docstrings_and_formatting_do_not_count(
    old: str, new: str, counts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanda = {"prune": ("llm_pruner.methods.wanda",)}
    before = digests(wanda)
    copy = tmp_path / "llm_pruner"
    shutil.copytree(ROOT / "llm_pruner", copy)
    path = copy / "methods" / "wanda.py"
    path.write_text(path.read_text().replace(old, new, 1))
    monkeypatch.setattr(fingerprint, "_root", lambda: copy)
    assert (digests(wanda) != before) is counts


def test_every_mechanism_is_in_the_table() -> None:
    assert set(METHOD_OF) == set(MECHANISMS)

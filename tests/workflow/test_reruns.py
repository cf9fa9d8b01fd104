"""An edit of a file reruns these jobs, and no other: by the digest of the sources that each job runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_pruner.encoders.steps import STEPS
from llm_pruner.methods import METHODS
from llm_pruner.report.figures import FIGURES, RUN
from llm_pruner.workflow import fingerprint
from tests.tiny import ROOT
from tests.workflow.edits import changed_by_edit

SCRIPTS = ROOT / "workflow_scripts"
DRAWN = {f"figure_{name}" for name in FIGURES}
OF_RUN = {f"figure_{name}" for name, figure in FIGURES.items() if figure.shows == RUN}
CLASSIFIERS = {f"encoder_{job}" for job in ("teacher", "prune", "step", "report")}
READS_TEXT = {"train_builtin", "builtin_tasks", "draw_samples", "evaluation_tokens"} | CLASSIFIERS
READ_VARIANTS = {"summary", "page"} | OF_RUN
"""Jobs that read every result file of all variants."""
NO_JOBS = {"figure_of_run", "figure_of_record", "job", "profile", "__init__"}
"""Scripts that a figure's module belongs to, and files that no rule runs."""


def entries() -> dict[str, tuple[str | Path, ...]]:
    """What the digest of each job starts from; of methods, all together."""
    scripts = {path.stem: path for path in SCRIPTS.glob("*.py")}
    jobs: dict[str, tuple[str | Path, ...]] = {name: (path,) for name, path in scripts.items() if name not in NO_JOBS}
    methods = [target.partition(":")[0] for target in METHODS.values()]
    for name in ("score", "prune"):
        jobs[name] = (scripts[name], *methods)
    jobs["encoder_step"] = (scripts["encoder_step"], *(target.partition(":")[0] for target in STEPS.values()))
    for name, figure in FIGURES.items():
        script = scripts["figure_of_run" if figure.shows == RUN else "figure_of_record"]
        jobs[f"figure_{name}"] = (script, figure.module)
    return jobs


@pytest.mark.parametrize(
    ("file", "jobs"),
    [
        ("report/canvas.py", DRAWN),
        ("report/style.py", {"summary", "page", *DRAWN}),
        ("report/table.py", {"summary", "page", *OF_RUN}),
        ("report/workbook.py", {"summary"}),
        ("report/encoders.py", {"summary"}),
        ("report/page/data.py", {"page"}),
        ("evaluation/continuations.py", {"evaluate"}),
        ("report/terminal.py", set()),
        ("workflow/display.py", set()),
        ("evaluation/divergence.py", {"evaluate", "base_predictions"}),
        ("report/figures/__init__.py", set()),
        ("report/figures/layer_reduction.py", {"figure_layer_reduction"}),
        ("report/figures/quality_against_size.py", {"figure_quality_against_size", "figure_accuracy_against_size"}),
        ("report/figures/classifier_curves.py", {"figure_teacher_curves", "figure_classifier_curves"}),
        ("report/figures/loss_curve.py", DRAWN - OF_RUN - {"figure_split_search", "figure_final_report"}),
        ("data/builtin/corpus.py", READS_TEXT),
        # a record file reruns whoever writes or reads it
        ("models/records.py", {"prepare_model"}),
        ("evaluation/records/continuations.py", {"evaluate", *READ_VARIANTS}),
        # classifiers are timed by the same function
        ("evaluation/records/efficiency.py", {"efficiency", "encoder_report", *READ_VARIANTS}),
        ("encoders/records/report.py", {"encoder_report", "figure_final_report", "summary"}),
        (
            "encoders/records/classifier.py",
            {"summary", "figure_final_report", "figure_teacher_curves", "figure_classifier_curves", *CLASSIFIERS},
        ),
    ],
)
def test_an_edit_reruns_these_jobs_and_no_other(file: str, jobs: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert changed_by_edit(file, entries(), monkeypatch) == jobs


@pytest.mark.parametrize("job", sorted(entries().keys() - DRAWN - {"summary", "page"}))
def test_only_figures_and_tables_run_the_report(job: str) -> None:
    reached = {file for entry in entries()[job] for file in fingerprint._closure(fingerprint._file(entry))}
    report = ROOT / "llm_pruner" / "report"
    assert not [file for file in reached if report in file.parents]

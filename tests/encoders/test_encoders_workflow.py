"""Classifiers on the command line and in the workflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from llm_pruner.encoders.architecture import read_shape
from llm_pruner.encoders.records.report import FinalReport
from llm_pruner.report.encoders import encoder_runs_table, encoders_table
from llm_pruner.report.table import read_results
from llm_pruner.report.workbook import write_workbook
from llm_pruner.system.errors import ConfigError
from llm_pruner.system.files import read_json
from llm_pruner.workflow.config import load_config
from llm_pruner.workflow.preflight import preflight
from tests.tiny.classifiers import ENCODERS, SIZE, write_reviews
from tests.tiny.commands import heavy_imports, run, run_json
from tests.tiny.workflows import Workflow


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    return write_reviews(tmp_path / "reviews.csv")


def test_teacher_to_four_bits(reviews: Path, tmp_path: Path) -> None:
    """Each command finds the result of the previous one."""
    runs = tmp_path / "runs"
    quick = ["--option", "checks=2", "--device", "cpu", "--no-progress"]
    columns = ["--task", "text_column=body", "--task", "label_column=verdict", "--task", "length=12"]
    size = ["--option", f"builtin={json.dumps(SIZE)}", "--option", "epochs=20", "--option", "learning_rate=0.01"]
    teacher = run_json("distill", "train", "--dataset", reviews, *columns, *size, *quick, "--output", runs / "teacher")
    assert teacher["kind"] == "Teacher" and teacher == read_json(runs / "teacher" / "record.json")
    assert teacher["validation"]["accuracy"] == 1 and teacher["task"]["classes"] == ["bad", "good"]
    options = ["--option", "importance_mode=l2", "--option", "epochs=2", *quick]
    said = run("distill", "prune", *options, "--output", runs / "pruned").stdout
    assert "removed 50.0% of the heads, 50.0% of the FFN neurons" in said
    assert read_json(runs / "pruned" / "record.json")["run"]["options"]["task"]["text_column"] == "body"
    four = run_json("distill", "ptq", "--layer-bits", "0=8", "--output", runs / "ptq")
    assert set(four["bits"].values()) == {4, 8} and four["seed"] == 0
    run("distill", "qat", *quick, "--option", "epochs=1", "--output", runs / "qkd")
    assert read_shape(runs / "qkd" / "model").layers == read_shape(runs / "pruned" / "model").layers
    assert not list(runs.glob("*/resume_point"))

    report = ["distill", "report", "--runs", runs, "--repeats", 1, "--device", "cpu", "--no-progress"]
    table = run(*report, "--output", tmp_path / "results").stdout
    assert [line.split("|")[1].strip() for line in table.strip().splitlines()[2:]] == [
        "Teacher",
        "Pruned",
        "PTQ",
        "QKD",
    ]
    (runs / "ptq" / "model" / "config.json").unlink()
    assert "--force" in run(*report, "--output", tmp_path / "results", code=1).stderr
    broken = run(*report, "--output", tmp_path / "results", "--json", "--force", code=3)
    assert f"{runs / 'ptq'}: " in broken.stderr and "no config.json" in broken.stderr
    assert len(json.loads(broken.stdout)["runs"]) == 3
    record = runs / "pruned" / "record.json"  # this record is read before the teacher's
    record.write_text(record.read_text().replace('"validation"', '"validated"'))
    damaged = run(*report, "--output", tmp_path / "results", "--json", "--force", code=3)
    assert f"{record}: 1 problem" in damaged.stderr and "validated: unknown key" in damaged.stderr
    assert [each["name"] for each in json.loads(damaged.stdout)["runs"]] == ["Teacher", "QKD"]
    assert (tmp_path / "results" / "final_report.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--dataset", "sst3"], "'sst3' is neither a file nor a known data set; did you mean 'sst2'?"),
        (["train", "--option", "epoch=1"], "epoch: unknown option; did you mean 'epochs'?"),
        (["prune"], "no Teacher model; make one first"),
        (["ptq", "--bits", "4"], "no Pruned or Student model; make one first"),
        (["ptq", "--layer-bits", "0=5"], "Input should be 4 or 8, not 5"),
        (["qat", "--option", "beta_ce=-1"], "beta_ce: Input should be greater than or equal to 0"),
    ],
)
def test_mistakes_end_with_one_message(arguments: list[str], message: str, tmp_path: Path) -> None:
    refused = run("distill", *arguments, "--output", tmp_path / "out", code=1)
    assert message in refused.stderr and refused.stdout == "" and not (tmp_path / "out").exists()


def test_unsupported_bits_are_a_usage_error(tmp_path: Path) -> None:
    refused = run("distill", "ptq", "--bits", "5", "--output", tmp_path / "out", code=2)
    assert "'4', '8'" in refused.stderr and not (tmp_path / "out").exists()


def test_help_imports_nothing_heavy() -> None:
    ((stdout, heavy, code),) = heavy_imports(["distill", "--help"])
    assert code == 0 and heavy == "[]" and "qat" in stdout


# --- the configuration -------------------------------------------------------------------------------------


def test_off_unless_rows_are_listed() -> None:
    config, _ = load_config({"variants": ["Dense"]})
    assert not config.encoders.rows and not config.encoders.needs_hub
    glue, _ = load_config({"variants": ["Dense"], "encoders": {"task": {"dataset": "sst2"}, "rows": {"A": {}}}})
    assert glue.needs_hub


def test_every_mistake_is_reported_with_its_key() -> None:
    wrong = {
        "task": {"dataset": "sst3"},
        "rows": {
            "a/b": {},
            "B": {"importance": "l2"},
            "C": {"final_sparsity": 1},
            "D": {"start": "Bb"},
            "E": {"start": "F"},
            "F": {"start": "E"},
            "Bb+nf4": {},
            "D+nf5": {},
            "D+nf4": {"epochs": 1},
            "D+nf4+qkd": {},
            "G": {"start": "D+nf4"},
        },
    }
    with pytest.raises(ConfigError) as caught:
        load_config({"variants": ["Dense"], "encoders": wrong})
    for expected in (
        "encoders.task: 'sst3' is neither a file nor a known data set",
        "encoders.rows: 'a/b' cannot name a folder",
        "encoders.rows.B: importance: unknown option; did you mean 'importance_mode'?",
        "encoders.rows.C: final_sparsity: Input should be less than 1",
        "encoders.rows.D: start: no pruned row 'Bb'; did you mean 'B'?",
        "encoders.rows: these rows start from each other, E → F → E",
        "encoders.rows.Bb+nf4: no row 'Bb'; did you mean 'B'?",
        "encoders.rows.D+nf5: unknown step '+nf5'; did you mean 'nf4'?",
        "encoders.rows.D+nf4: epochs: unknown option",
        "encoders.rows.D+nf4+qkd: nothing can follow +nf4; put +nf4 last",
        "encoders.rows.G: start: no pruned row 'D+nf4'",
    ):
        assert any(expected in problem for problem in caught.value.problems), expected
    with pytest.raises(ConfigError, match=r"encoders\.tsk: unknown key; did you mean 'task'"):
        load_config({"variants": ["Dense"], "encoders": {"tsk": {}}})


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ({"ptq": ["A"]}, "encoders.ptq: this list is gone; write 'A+nf4: {}' under encoders.rows"),
        (
            {"qkd": ["A", "B"]},
            "encoders.qkd: this list is gone; write 'A+qkd: {}' and 'B+qkd: {}' under encoders.rows",
        ),
        ({"ptq": None}, "encoders.ptq: this list is gone; write '<row>+nf4: {}' under encoders.rows"),
    ],
)
def test_old_lists_are_refused_with_the_rows_to_write(listed: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"variants": ["Dense"], "encoders": {"rows": {"A": {}, "B": {}}, **listed}})
    assert caught.value.problems == [expected]


def test_a_step_takes_options_from_its_sections_and_its_row() -> None:
    encoders = {
        "quantization": {"layer_bits": {0: 8}, "double_quant": True},
        "qat": {"epochs": 5, "checks": 3},
        "rows": {"A": {}, "A+nf4": {"double_quant": False}, "A+qkd": {"epochs": 7}},
    }
    found = load_config({"variants": ["Dense"], "encoders": encoders})[0].encoders
    assert found.pruned == ["A"]
    assert found.step_options("A+nf4").model_dump() == {"bits": 4, "layer_bits": {0: 8}, "double_quant": False}
    trained = found.step_options("A+qkd").model_dump()
    assert trained["double_quant"] and trained["layer_bits"] == {0: 8}
    assert (trained["epochs"], trained["checks"], trained["learning_rate"]) == (7, 3, 1e-5)


def test_rows_that_do_not_fit_the_teacher_are_refused_before_the_run() -> None:
    asked = {"rows": {"A": {"head_final_sparsity": 0.9}}, "quantization": {"layer_bits": {7: 8}}}
    config, variants = load_config({"variants": ["Dense"], "encoders": asked})
    with pytest.raises(ConfigError) as caught:
        preflight(config, variants.values())
    first, second = caught.value.problems
    assert first.startswith("encoders.rows.A: head_final_sparsity: 0.9 leaves") and "at most 0.8750" in first
    assert second == "encoders.quantization.layer_bits: no layer 7; the teacher has 4"


# --- the DAG -----------------------------------------------------------------------------------------------


@pytest.mark.workflow
def test_rows_are_made_measured_and_remade(ready_python: Path, tmp_path: Path) -> None:
    workflow = Workflow.create(tmp_path / "workflow", ready_python)
    workflow.config = {"model": {"device": "cpu"}, "encoders": ENCODERS, "variants": ["Dense"]}
    write_reviews(workflow.run_folder / "reviews.csv")
    target = "results/final_report.json"
    workflow.run("classifiers")
    folder = workflow.run_folder
    report = FinalReport.read(folder / target)
    assert [entry.name for entry in report.names] == ["Teacher", "MSP", "MSP+nf4", "MSP+qkd"]
    assert report.names[1].seeds == (0, 3) and not report.problems
    assert report.names[1].reached and report.names[1].reached.heads == 0.5
    drawn = [folder / "encoders" / run / "curves.png" for run in ("Teacher", "MSP/seed_0", "MSP+qkd/seed_3")]
    assert all(path.exists() for path in [*drawn, folder / "results" / "final_report.png"])
    assert not list(folder.rglob("resume_point"))
    assert "Nothing to be done" in workflow.run("--dry-run", target).stdout

    tables = [encoders_table(report), encoder_runs_table(report)]
    write_workbook(read_results([]), folder / "summary.xlsx", tables)
    book = openpyxl.load_workbook(folder / "summary.xlsx")
    assert book.sheetnames[-2:] == ["Encoders", "Encoder runs"]
    assert [cell.value for cell in book["Encoders"]["A"][1:5]] == ["Teacher", "MSP", "MSP+nf4", "MSP+qkd"]

    workflow.config["encoders"] = {**ENCODERS, "rows": {**ENCODERS["rows"], "L2": {"importance_mode": "l2"}}}
    again = workflow.run("--dry-run").stdout  # the default target needs the report for its tables
    assert again.count("rule encoder_prune") == again.count("rule encoder_report") == 1
    assert "row=L2" in again and "rule encoder_step" not in again and "rule encoder_teacher" not in again

    further = {"start": "MSP", "epochs": 1, "enable_multi_granularity": False, "final_sparsity": 0.2}
    workflow.config["encoders"] = {**ENCODERS, "rows": {**ENCODERS["rows"], "Further": further}}
    said = workflow.run(target).stdout.splitlines()
    assert sum("encoder_prune" in line and line.endswith("started") for line in said) == 1
    reached = {entry.name: entry.reached for entry in FinalReport.read(folder / target).names}
    further, first = reached["Further"], reached["MSP"]
    assert further and first and further.parameters > first.parameters

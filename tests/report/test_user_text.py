"""Text of a user's stays text in every output: no formula, no markup, no control of the terminal."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.image import imread
from openpyxl import load_workbook
from rich.console import Console

from llm_pruner.analysis.comparison import compare
from llm_pruner.evaluation.records.continuations import Continuation, Continuations
from llm_pruner.evaluation.records.perplexity import PerplexityResult
from llm_pruner.evaluation.records.zero_shot import MeanScores, TaskScores, ZeroShotResult
from llm_pruner.report.figures import FIGURES
from llm_pruner.report.page.write import write_page
from llm_pruner.report.table import Model, Results, markdown, summary_table, write_csv
from llm_pruner.report.terminal import show_run
from llm_pruner.report.workbook import write_workbook
from llm_pruner.system.records import RunRecord
from llm_pruner.system.text import csv_cell, from_csv_cell, printable
from tests.report.test_report import BASE, analysis, run

HOSTILE = [
    '=HYPERLINK("http://x","y")',
    "+1+1",
    "-1",
    "@SUM(A1)",
    "#N/A",
    "<script>alert(1)</script>",
    "a|b",
    "[red]x[/]",
    "[x](javascript:y) *b* _c_ `d`",
    "$\\frac$ costs",
    "\x1b[2J\x07\x00",
    "two\nlines",
]


@pytest.fixture(scope="module")
def results() -> Results:
    """Models, tasks, prompts and texts with hostile names."""
    job = RunRecord.model_validate(run(1.0))
    scores = TaskScores(
        acc=0.5, acc_stderr=0.1, acc_norm=None, acc_norm_stderr=None, perplexity=None, perplexity_stderr=None,
        items=4, num_fewshot=0,
    )  # fmt: skip
    models: list[Model] = []
    for name in ("Dense", *HOSTILE):
        dense, own = analysis("Dense", BASE), analysis(name, BASE)
        measured = ZeroShotResult(
            model=name,
            tasks=dict.fromkeys(HOSTILE, scores),
            mean=MeanScores(acc=0.5, acc_stderr=0.1, acc_norm=0.5),
            run=job,
        )
        written = Continuations(
            model=name, new_tokens=4, continuations=tuple(Continuation(prompt=text, text=text) for text in HOSTILE),
            run=job,
        )  # fmt: skip
        perplexity = PerplexityResult(
            model=name, dataset=HOSTILE[0], split=None, window=8, stride=8, windows=2, tokens=14, nll=2.0,
            perplexity=math.exp(2), window_nll=(1.9, 2.1), bits_per_byte=None, run=job,
        )  # fmt: skip
        models.append(
            Model(
                name,
                comparison=compare(dense, own),
                perplexity=perplexity,
                zero_shot=measured,
                continuations=written,
            )
        )
    return Results(tuple(models), models[0])


def test_no_cell_of_the_workbook_is_a_formula(results: Results, tmp_path: Path) -> None:
    write_workbook(results, tmp_path / "a.xlsx")
    book = load_workbook(tmp_path / "a.xlsx")
    cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row if cell.value is not None]
    assert {cell.data_type for cell in cells} <= {"s", "n"}
    assert all(cell.number_format == "@" for cell in cells if cell.data_type == "s")
    held = {cell.value for cell in cells}
    for name in HOSTILE:
        assert printable(name) in held and f"{printable(name)} acc" in held


def test_no_cell_of_a_csv_file_is_a_formula(results: Results, tmp_path: Path) -> None:
    write_csv(summary_table(results), tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        heading, *rows = csv.reader(file)
    texts = [cell for row in (heading, *rows) for cell in row if not re.fullmatch(r"-?[\d.e-]+", cell)]
    assert not [text for text in texts if text.startswith(("=", "+", "-", "@"))]
    assert [from_csv_cell(row[0]) for row in rows] == ["Dense", *map(printable, HOSTILE)]


@pytest.mark.parametrize("text", ["=a", "'=a", "''=a", "'a", "a", "", "'"])
def test_texts_of_a_csv_file_come_back(text: str) -> None:
    assert from_csv_cell(csv_cell(text)) == text


def test_no_cell_of_a_markdown_table_is_markup(results: Results) -> None:
    lines = markdown(summary_table(results)).splitlines()
    assert len(lines) == 2 + 1 + len(HOSTILE)
    assert len({line.count("|") for line in lines}) == 1
    assert not set("<>`*[]\\") & set("".join(lines))


def test_the_page_holds_no_markup_of_others(results: Results, tmp_path: Path) -> None:
    write_page(results, tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert "<script>alert" not in page
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert [model["name"] for model in data["models"]] == ["Dense", *HOSTILE]
    assert data["prompts"] == HOSTILE


def test_the_terminal_shows_text_as_it_is(results: Results, tmp_path: Path) -> None:
    out = io.StringIO()
    show_run(results, Console(file=out, width=200, highlight=False, force_terminal=True), tmp_path)
    shown = out.getvalue()
    assert "[red]x[/]" in shown and "[x](javascript:y)" in shown
    assert "\x1b[2J" not in shown and "\x07" not in shown


@pytest.mark.parametrize("name", ["quality_against_size", "layer_reduction"])
def test_figures_draw_any_name(name: str, results: Results, tmp_path: Path) -> None:
    FIGURES[name].draw(replace(results, models=results.models[:1] + results.models[10:11]), tmp_path / "a.png")
    assert imread(tmp_path / "a.png").size

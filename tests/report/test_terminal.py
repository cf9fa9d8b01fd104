"""The end of a run on the terminal: which columns fit, which model is best at a size, which rows are ties."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from llm_pruner.report.table import Results, markdown, summary_table, ties_of, told_apart
from llm_pruner.report.terminal import FIRST, grid, show_run
from tests.tiny.results import BASE, RESULTS, SMALL, TIED, WORSE, model


def shown(results: Results | None, width: int, folder: Path = Path("nowhere"), **more: Any) -> str:
    console = Console(file=io.StringIO(), width=width)
    show_run(results, console, folder, **more)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_told_apart_is_two_errors_of_the_paired_difference() -> None:
    assert told_apart(WORSE, BASE) is True
    assert told_apart(TIED, BASE) is False
    assert told_apart(TIED, WORSE) is False and told_apart(WORSE, TIED) is False
    # always 0.5 more: no spread at all, and so no doubt
    assert told_apart(model("Shifted", 1, 1.5, 1.5, 1.5), BASE) is True
    assert told_apart(model("Equal", 1, 1.0, 1.0, 1.0), BASE) is False


def test_without_an_error_nothing_is_said() -> None:
    assert told_apart(model("One", 1, 1.2), model("Base", 1, 1.0)) is None
    assert told_apart(model("Unmeasured", 1), BASE) is None
    assert ties_of(model("Unmeasured", 1), RESULTS.models) == []
    assert ties_of(BASE, RESULTS.models) == ["Tied"]


def test_ties_are_named_in_every_table() -> None:
    table = summary_table(RESULTS)
    # Tied is the best of the pruned
    assert dict(zip(table.frame["variant"], table.frame["ties"].fillna(""), strict=True)) == {
        "Dense": "Tied",
        "Worse": "Tied",
        "Tied": "Dense",
        "Small": "",
    }
    assert "Tie with" in markdown(table)
    assert "Tie with" in shown(RESULTS, 120)
    apart = Results((BASE, WORSE, SMALL), BASE)
    assert "Tie with" not in markdown(summary_table(apart)) and "Tie with" not in shown(apart, 120)


@pytest.mark.parametrize("width", [30, 60, 80, 120])
def test_columns_that_do_not_fit_are_left_out_from_the_end_of_one_order(width: int) -> None:
    table = summary_table(RESULTS)
    titles = {column.key: column.title.split()[0] for column in table.columns}
    heads = {str(column.header).split()[0] for column in grid(table, width, FIRST).columns}
    measured = [key for key in FIRST if key in titles and table.frame[key].notna().any()]
    kept = [titles[key] in heads for key in measured]
    assert kept == sorted(kept, reverse=True) and kept[0]
    assert all(len(line.rstrip()) <= width for line in shown(RESULTS, width).splitlines()[:6])


def test_a_wider_terminal_shows_more() -> None:
    table = summary_table(RESULTS)
    assert len(grid(table, 40, FIRST).columns) < len(grid(table, 120, FIRST).columns)


def test_places_are_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "summary.xlsx").touch()
    (tmp_path / "baselines" / "Small" / "model").mkdir(parents=True)
    text = shown(RESULTS, 80, tmp_path)
    assert "summary.xlsx" in text and "baselines/Small/model" in text
    assert "index.html" not in text and "Worse/model" not in text


def test_a_run_of_other_tables_alone() -> None:
    assert "Worse" in shown(None, 80, more=[summary_table(RESULTS)])

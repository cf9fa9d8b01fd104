"""The end of a run on the terminal: which columns fit, which model is best at a size, which rows are ties."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from llm_pruner.analysis.comparison import compare
from llm_pruner.analysis.records import ModelStructure
from llm_pruner.evaluation.records.perplexity import PerplexityResult
from llm_pruner.report.table import Model, Results, best_at_sizes, markdown, summary_table, ties_of, told_apart
from llm_pruner.report.terminal import FIRST, grid, show_run
from llm_pruner.variants.records import PruningRecord


def structure(name: str, size: int) -> ModelStructure:
    """Of a model without layers, of a size in bytes, four a parameter."""
    sizes = {"parameters": size // 4, "nonzero": size // 4}
    totals = {**sizes, "sparsity": 0.0, "bytes_on_disk": size, "parts": {"other": sizes}}
    held = {"name": name, "model_type": "llama", "hidden_size": 8, "num_layers": 0, "totals": totals, "layers": []}
    return ModelStructure.model_validate(held)


def model(name: str, size: int, *losses: float) -> Model:
    """A model of a size in bytes whose windows have these losses; not measured without any."""
    comparison = compare(structure("Dense", 1000), structure(name, size))
    if not losses:
        return Model(name, comparison=comparison)
    nll = sum(losses) / len(losses)
    text = {"dataset": "text", "split": "test", "window": 8, "stride": 8, "windows": len(losses), "tokens": 8}
    found = {"nll": nll, "perplexity": math.exp(nll), "window_nll": list(losses), "bits_per_byte": None}
    held = {"model": name, **text, **found, "run": RUN}
    return Model(name, comparison=comparison, perplexity=PerplexityResult.model_validate(held))


def stored_in_few_bits(name: str) -> PruningRecord:
    step = {"name": "nf4", "options": {}, "bytes": {"before": 1000, "after": 300}, "run": RUN}
    held = {
        "variant": name,
        "method": "Dense",
        "mechanism": "dense",
        "structure": "dense",
        "parent": "Dense",
        "asked": None,
        "reached": None,
        "options": {},
        "notes": [],
        "scores": [],
        "seconds": {"scoring": 0.0, "pruning": 1.0, "total": 1.0},
        "steps": [step],
        "run": RUN,
    }
    return PruningRecord.model_validate(held)


RUN = {
    "started": "2026-01-01T10:00:00+00:00",
    "seconds": 1.0,
    "seed": 0,
    "device": "cpu",
    "machine": {"system": "Linux", "processor": "x86_64", "cores": 2},
    "options": {},
    "versions": {"python": "3.12.3"},
}
BASE = model("Dense", 1000, 1.0, 1.0, 1.0)
# against Dense: 0.1, 0.3 and 0.2 lost, so 0.2 ± 0.1 / √3 = 0.058, which is 3.5 errors
WORSE = model("Worse", 800, 1.1, 1.3, 1.2)
# -0.1, 0.3 and 0.2 lost: 0.133 ± 0.120, which is 1.1 errors; against Worse -0.2, 0, 0: -0.067 ± 0.067, one error
TIED = model("Tied", 900, 0.9, 1.3, 1.2)
SMALL = model("Small", 500, 2.0, 2.2, 2.1)
RESULTS = Results((BASE, WORSE, TIED, SMALL), BASE)


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


def test_best_at_sizes() -> None:
    at = {one.share: one for one in best_at_sizes(RESULTS, (1.0, 0.9, 0.8, 0.65, 0.4))}
    assert {share: one.model and one.model.name for share, one in at.items()} == {
        1.0: "Dense",
        0.9: "Tied",
        0.8: "Worse",
        0.65: "Small",
        0.4: None,
    }
    assert (at[1.0].ties, at[0.9].ties, at[0.8].ties) == (("Tied",), ("Worse",), ())
    assert at[0.9].limit == 900


def test_beside_the_best_in_few_bits_stands_the_best_that_is_not() -> None:
    few_bits = replace(model("Dense+nf4", 300, 1.05, 1.05, 1.05), pruning=stored_in_few_bits("Dense+nf4"))
    # 800.4 of 1000 bytes are 80 % to a tenth of a percent
    close = model("Close", 8004, 1.2, 1.2, 1.2)
    base = model("Dense", 10_000, 1.0, 1.0, 1.0)
    results = Results((base, close, few_bits, SMALL), base)
    at = {one.share: one for one in best_at_sizes(results)}
    assert {one.model and one.model.name for one in at.values()} == {"Dense+nf4"}
    told = {share: one.in_full_precision and one.in_full_precision.name for share, one in at.items()}
    assert told == {0.9: "Close", 0.8: "Close", 0.65: "Small"}
    assert shown(results, 120).count("best that is not in few bits") == 3


def test_a_row_that_was_not_measured_is_never_best() -> None:
    results = Results((BASE, model("Unmeasured", 10), SMALL), BASE)
    assert [one.model and one.model.name for one in best_at_sizes(results)] == ["Small"] * 3
    assert best_at_sizes(Results((SMALL,), Model("Dense"))) == []


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
    heads = {column.header.split()[0] for column in grid(table, width, FIRST).columns}  # type: ignore[union-attr]
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

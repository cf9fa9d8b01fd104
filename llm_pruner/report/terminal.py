"""The end of a run on the terminal: its table, the best models by size, and the places of its files.

The terminal shows as many columns of the table as fit its width, in a fixed order of importance. The workbook has all
columns.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pandas as pd
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from llm_pruner.report.recommendation import Best, best_at_sizes
from llm_pruner.report.table import (
    BYTES,
    TEXT,
    Column,
    Model,
    Results,
    Table,
    size_on_disk,
    summary_table,
)
from llm_pruner.system.text import printable

FIRST = (
    "variant",
    "perplexity",
    "bytes_on_disk",
    "nll_difference",
    "nll_difference_stderr",
    "kl",
    "ties",
    "zero_shot_acc",
    "zero_shot_stderr",
    "decode_speedup",
    "parameters",
    "perplexity_before",
    "nonzero",
    "decode_ms",
    "zero_shot_retention",
)
"""Columns of the summary in order of importance. Other compact columns follow, in the table's order."""
_BETWEEN = 2
"""Blanks between columns."""
_PLACES = {
    "results/index.html": "all results on one page",
    "results/summary.xlsx": "every column, layers, tasks, speed, provenance",
    "results/figures": "pictures",
    "results/final_report.json": "the classifiers",
}


def show_run(results: Results | None, console: Console, folder: Path = Path(), more: Sequence[Table] = ()) -> None:
    """Print the summary of a run, its best models, further tables, and the places of the files.

    Args:
        results: results of the language models; None for a run without them.
        console: the console to print on; its width decides the number of columns.
        folder: folder of the run.
        more: further tables, such as the classifiers.
    """
    best = best_at_sizes(results) if results else []
    if results:
        _show_summary(results, best, console)
    for table in more:
        console.print()
        console.print(grid(table, console.width), soft_wrap=True)
    models = [model for one in best for model in one.models]
    places = {**_PLACES, **{f"baselines/{model.name}/model": "a model folder" for model in models}}
    there = {os.path.relpath(folder / place): text for place, text in places.items() if (folder / place).exists()}
    if there:
        console.print()
    for place, text in there.items():
        console.print(_text(f"{place:<{max(map(len, there))}}  {text}"), soft_wrap=True)


def _show_summary(results: Results, best: Sequence[Best], console: Console) -> None:
    table = summary_table(results)
    console.print()
    console.print(grid(table, console.width, FIRST), soft_wrap=True)
    if table.frame["ties"].notna().any():
        console.print("\nTie with: the difference is below two standard errors, so the order is chance.")
    if best:
        whole = BYTES.text(size_on_disk(results.base))
        console.print()
        console.print(_text(f"Lowest perplexity in at most a share of {results.base.name}'s {whole} on disk:"))
        console.print(_best_grid(best), soft_wrap=True)


def grid(table: Table, width: int, first: Sequence[str] = ()) -> Grid:
    """The columns of a table that fit a width, in the table's order.

    Args:
        table: the table. A column may be shown if it is compact or named in ``first``, and not empty.
        width: characters of a line.
        first: keys of the most important columns; the others follow in the table's order. The first column that does
            not fit ends the choice, but one column is always shown.
    """
    cells = {column.key: _texts(table, column) for column in table.columns}
    candidates = [column for column in table.columns if column.compact or column.key in first]
    candidates = [column for column in candidates if any(cells[column.key])]
    order = {key: number for number, key in enumerate(first)}
    chosen: list[Column] = []
    taken = -_BETWEEN
    for column in sorted(candidates, key=lambda column: order.get(column.key, len(order))):
        taken += _BETWEEN + _width(column, cells[column.key])
        if chosen and taken > width:
            break
        chosen.append(column)
    shown = Grid(box=None, pad_edge=False, padding=(0, _BETWEEN, 0, 0), header_style="bold")
    for column in (column for column in table.columns if column in chosen):
        shown.add_column(
            _text(_title(column)),
            justify="left" if column.format is TEXT else "right",
            vertical="bottom",
            min_width=_width(column, cells[column.key]),
            max_width=_width(column, cells[column.key]),
        )
    for row in range(len(table.frame)):
        shown.add_row(*(_text(cells[column.key][row]) for column in table.columns if column in chosen))
    return shown


def _texts(table: Table, column: Column) -> list[str]:
    values = table.frame[column.key].astype(object)
    return ["" if pd.isna(value) else column.format.text(value) for value in values]


def _width(column: Column, texts: Sequence[str]) -> int:
    """Characters of the longest value or of the heading's longest word; headings break between words."""
    return max(map(cell_len, (*_title(column).split(" "), *texts)))


def _title(column: Column) -> str:
    return column.title.replace("± ", "±\N{NO-BREAK SPACE}")


def _best_grid(best: Sequence[Best]) -> Grid:
    shown = Grid(box=None, pad_edge=False, padding=(0, _BETWEEN, 0, 0), show_header=False)
    for (models, ties), group in groupby(best, key=lambda one: (one.models, one.choice.ties)):
        shares = [one.share for one in group]
        limit = f"  ≤ {100 * shares[0]:.0f} %" + (f" to {100 * shares[-1]:.0f} %" if len(shares) > 1 else "")
        if not models:
            shown.add_row(limit, "no row is so small")
            continue
        shown.add_row(limit, *_measured(models[0]), _text(f"ties with {', '.join(ties)}" if ties else ""))
        for other in models[1:]:
            shown.add_row("", *_measured(other), "best that is not in few bits")
    return shown


def _measured(model: Model) -> tuple[Text, str, str]:
    """Name, size and perplexity."""
    perplexity = f"{model.perplexity.perplexity:,.2f}" if model.perplexity else ""
    return _text(model.name), BYTES.text(size_on_disk(model)), perplexity


def _text(text: str) -> Text:
    """Text that rich shows as it is: no part of it is markup, or controls the terminal."""
    return Text(printable(text))

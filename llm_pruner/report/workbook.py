"""summary.xlsx: the run's tables as sheets, with a heat map of the layers and native charts."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any

import pandas as pd
from openpyxl import Workbook
from openpyxl.cell import Cell
from openpyxl.chart import BarChart, Reference, ScatterChart, Series
from openpyxl.chart.legend import LegendEntry
from openpyxl.chart.shapes import GraphicalProperties
from openpyxl.drawing.line import LineProperties
from openpyxl.formatting.rule import CellIsRule, ColorScaleRule
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.worksheet import Worksheet

from llm_pruner.report.recommendation import recommendation_table
from llm_pruner.report.style import UNKNOWN, ceiling, method_styles, run_styles
from llm_pruner.report.table import (
    SHARE,
    TEXT,
    Column,
    Results,
    Table,
    efficiency_table,
    layers_table,
    provenance_table,
    seeds_table,
    summary_table,
    zero_shot_table,
)
from llm_pruner.system.files import staged_file
from llm_pruner.system.ownership import MADE_BY

_FONT = "Calibri"
_HEADER_FONT = Font(_FONT, 11, bold=True, color="FFFFFF")
_HEADER_FILL = PatternFill("solid", fgColor="1F3A5F")
_HEADER_ALIGNMENT = Alignment(horizontal="center", vertical="center", wrap_text=True)
_NOTE_FONT = Font(_FONT, 10, italic=True, color="595959")
_RULE = Border(bottom=Side("thin", color="D9D9D9"))
_BLOCK_END = Border(bottom=Side("medium", color="1F3A5F"))
_LINE_HEIGHT = 15
_CHART_COLUMN = 2  # every printed page repeats the first column, with any chart in it
_NARROWEST, _WIDEST = 8, 60
_PAGE_WIDTH = 230
_PAGE_ROWS = 60
"""Largest legible size of a landscape page, in characters and in rows."""
_HEAT = ("FFFFFF", "6BAED6", "08306B")
"""Colours for nothing, half and everything gone."""
_EXCEL_MARKERS = {
    "o": "circle",
    "s": "square",
    "^": "triangle",
    "D": "diamond",
    "v": "triangle",
    "P": "plus",
    "X": "x",
    "*": "star",
}


def write_workbook(results: Results, path: str | os.PathLike[str], more: Sequence[Table] = ()) -> None:
    """Write a sheet for each table, then for each of ``more``. Only runs with repeats have the sheet Seeds.

    Equal results make equal cells.
    """
    book = Workbook()
    book.remove(book.active)
    summary, layers, zero_shot, efficiency, provenance = (
        summary_table(results),
        layers_table(results),
        zero_shot_table(results),
        efficiency_table(results),
        provenance_table(results),
    )
    sheet = _add_sheet(book, summary, frozen_columns=1)
    _add_scatter(sheet, summary, results)
    _add_sheet(book, recommendation_table(results), frozen_columns=1)
    sheet = _add_sheet(book, layers, frozen_columns=3)
    _add_heat(sheet, layers)
    sheet = _add_sheet(book, zero_shot, frozen_columns=1)
    _add_bars(sheet, zero_shot, ["mean_acc", "mean_acc_norm"], "Zero-shot accuracy", "mean over tasks")
    sheet = _add_sheet(book, efficiency, frozen_columns=1)
    _add_bars(sheet, efficiency, ["decode_ms_1"], "Decode latency at batch 1", "ms per token")
    _add_bars(sheet, efficiency, ["prefill_ms_1"], "Prefill latency at batch 1", "ms per prompt", offset=5)
    seeds = seeds_table(results)
    for table in (*([seeds] if seeds else []), provenance, *more):
        _add_sheet(book, table, frozen_columns=1)
    book.properties.creator = MADE_BY
    with staged_file(path) as staged:
        book.save(staged)


# --- sheets ------------------------------------------------------------------------------------------------


def _shown(table: Table) -> list[Column]:
    return [column for column in table.columns if not column.raw]


def _place(table: Table, key: str) -> int | None:
    """Number of a column in the sheet, from 1; None if the table lacks the column or nothing was measured."""
    for number, column in enumerate(_shown(table), start=1):
        if column.key == key and table.frame[key].notna().any():
            return number
    return None


def _add_sheet(book: Workbook, table: Table, frozen_columns: int) -> Worksheet:
    """Add a sheet with the table, its note below, and frozen, filterable headings, ready to print."""
    sheet = book.create_sheet(table.title)
    columns = _shown(table)
    rows = len(table.frame)
    lines = [1] * (rows + 2)
    total_width = 0.0
    for number, column in enumerate(columns, start=1):
        heading = _write_text(sheet, 1, number, column.title)
        heading.font, heading.fill, heading.alignment = _HEADER_FONT, _HEADER_FILL, _HEADER_ALIGNMENT
        texts = [_write_cell(sheet, row, number, column, value) for row, value in _values(table, column)]
        width = _width(column, texts)
        sheet.column_dimensions[get_column_letter(number)].width = width
        total_width += width
        for row, text in enumerate([column.title, *texts], start=1):
            lines[row] = max(lines[row], _lines(text, width))
    for row in range(1, rows + 2):
        sheet.row_dimensions[row].height = _LINE_HEIGHT * lines[row] + (8 if row == 1 else 0)
    last = get_column_letter(len(columns))
    sheet.freeze_panes = sheet.cell(2, frozen_columns + 1)
    sheet.auto_filter.ref = f"A1:{last}{rows + 1}"
    if table.note:
        _write_text(sheet, rows + 3, 1, table.note).font = _NOTE_FONT
    _set_up_print(sheet, pages_wide=math.ceil(total_width / _PAGE_WIDTH))
    return sheet


def _values(table: Table, column: Column) -> list[tuple[int, Any]]:
    """Sheet row and value of every cell of a column; None for an empty cell."""
    values = table.frame[column.key].astype(object)
    return [(row, None if pd.isna(value) else value) for row, value in enumerate(values, start=2)]


def _write_cell(sheet: Worksheet, row: int, number: int, column: Column, value: Any) -> str:
    """Fill one cell and return its text."""
    is_text = column.format is TEXT
    cell = _write_text(sheet, row, number, value) if is_text and value is not None else sheet.cell(row, number, value)
    cell.border = _RULE
    cell.alignment = Alignment(horizontal="left" if is_text else "right", vertical="top", wrap_text=is_text, indent=1)
    if value is None:
        return ""
    cell.number_format = column.format.excel
    cell.font = Font(_FONT, 11, bold=number == 1)
    return column.format.text(value)


def _write_text(sheet: Worksheet, row: int, number: int, text: str) -> Cell:
    """Fill one cell with text that stays text, even if it begins with '=' or looks like an error value."""
    cell: Cell = sheet.cell(row, number, text)
    cell.data_type = "s"
    cell.number_format = TEXT.excel  # otherwise it would become a formula when it is edited
    return cell


def _width(column: Column, texts: list[str]) -> float:
    """Width for the longest value and the heading's longest word, within bounds."""
    longest_word = max(len(word) for word in column.title.split())
    content = max(map(len, texts), default=0)
    # The heading's filter button and the cell's padding take about three characters.
    return min(1.1 * max(content, longest_word, _NARROWEST) + 3, _WIDEST)


def _lines(text: str, width: float) -> int:
    """Lines of a wrapped text. Words are not split, so a line holds a little less than the width."""
    return 1 if len(text) <= width - 2 else math.ceil(len(text) / (0.85 * width))


def _set_up_print(sheet: Worksheet, pages_wide: int) -> None:
    sheet.page_setup.orientation = "landscape"
    sheet.page_setup.paperSize = sheet.PAPERSIZE_A4
    sheet.page_setup.fitToWidth = pages_wide
    sheet.page_setup.fitToHeight = math.ceil(sheet.max_row / _PAGE_ROWS)
    sheet.sheet_properties.pageSetUpPr.fitToPage = True
    sheet.print_title_rows = "1:1"
    sheet.print_title_cols = "A:A"
    sheet.oddFooter.center.text = "&A, page &P of &N"
    sheet.page_margins.left = sheet.page_margins.right = 0.4
    sheet.page_margins.top = sheet.page_margins.bottom = 0.6
    sheet.page_margins.header = sheet.page_margins.footer = 0.25


def _add_heat(sheet: Worksheet, table: Table) -> None:
    """Colour the layers from nothing to everything gone, on one scale for all models."""
    columns = _shown(table)
    first = next((n for n, column in enumerate(columns, start=1) if column.key.startswith("layer_")), None)
    if first is None or table.frame.empty:
        return
    area = f"{get_column_letter(first)}2:{get_column_letter(len(columns))}{len(table.frame) + 1}"
    nothing, half, everything = _HEAT
    scale = ColorScaleRule("num", 0, nothing, "num", 0.5, half, "num", 1, everything)
    white = CellIsRule(operator="greaterThan", formula=["0.6"], font=Font(color="FFFFFF"))
    sheet.conditional_formatting.add(area, scale)
    sheet.conditional_formatting.add(area, white)
    for number in range(first, len(columns) + 1):
        sheet.column_dimensions[get_column_letter(number)].width = 8
    blocks = table.frame["block"].tolist()
    for row, (block, following) in enumerate(pairwise(blocks), start=2):
        if block != following:
            for number in range(1, len(columns) + 1):
                sheet.cell(row, number).border = _BLOCK_END


# --- charts ------------------------------------------------------------------------------------------------


def _add_scatter(sheet: Worksheet, table: Table, results: Results) -> None:
    """Add a chart of perplexity against bytes on disk: a series for consecutive rows of a method, hollow if sparse."""
    x, y = _place(table, "bytes_on_disk"), _place(table, "perplexity")
    if x is None or y is None:
        return
    chart = ScatterChart(style=2)
    chart.title = "Perplexity against size"
    chart.width, chart.height = 26, 14
    styles = run_styles(results)
    known: set[tuple[str, bool]] = set()
    for number, ((method, sparse), group) in enumerate(
        groupby(enumerate(results.models, start=2), key=lambda row: (row[1].method or UNKNOWN, row[1].is_sparse))
    ):
        if (method, sparse) in known:
            chart.legend.legendEntry.append(LegendEntry(idx=number, delete=True))
        known.add((method, sparse))
        rows = [row for row, _ in group]
        values, sizes = (Reference(sheet, min_col=c, min_row=rows[0], max_row=rows[-1]) for c in (y, x))
        series = Series(values, sizes, title=f"{method} (sparse)" if sparse else method)
        colour = styles[method].colour.removeprefix("#")
        series.graphicalProperties.line.noFill = True
        series.marker.symbol, series.marker.size = _EXCEL_MARKERS[styles[method].marker], 9
        fill = {"noFill": True} if sparse else {"solidFill": colour}
        series.marker.graphicalProperties = GraphicalProperties(**fill)
        series.marker.graphicalProperties.line.solidFill = colour
        chart.series.append(series)
    frame = table.frame
    _label_axes(chart, "Weights on disk", "Perplexity (lower is better)")
    chart.y_axis.number_format = "General"
    chart.x_axis.number_format = '[>=1000000000]0.0,,," GB";0.0,," MB"'
    smallest, largest = frame["bytes_on_disk"].min(), frame["bytes_on_disk"].max()
    margin = max(largest - smallest, 0.1 * largest) * 0.08
    chart.x_axis.scaling.min, chart.x_axis.scaling.max = float(smallest - margin), float(largest + margin)
    perplexities = frame["perplexity"].dropna().astype(float)
    limit = ceiling(perplexities.tolist())
    if limit < perplexities.max():  # a few outliers would flatten the rest
        chart.y_axis.scaling.min, chart.y_axis.scaling.max = math.floor(perplexities.min()), math.ceil(limit)
        chart.title = f"Perplexity against size; {sum(perplexities > limit)} far above not shown"
    chart.legend.position = "r"
    sheet.add_chart(chart, f"{get_column_letter(_CHART_COLUMN)}{len(frame) + 5}")


def _add_bars(sheet: Worksheet, table: Table, keys: list[str], title: str, unit: str, *, offset: int = 0) -> None:
    """Add a chart of horizontal bars, one for each model and column, in the order of the table."""
    places = [place for key in keys if (place := _place(table, key)) is not None]
    if not places:
        return
    rows = len(table.frame)
    chart = BarChart()
    chart.type = "bar"
    chart.title = title
    chart.width, chart.height = 12, max(8.0, 2.5 + 0.62 * rows)
    chart.gapWidth = 40
    colours = [style.colour.removeprefix("#") for style in method_styles(keys).values()]
    for place, colour in zip(places, colours, strict=False):
        chart.add_data(Reference(sheet, min_col=place, min_row=1, max_row=rows + 1), titles_from_data=True)
        chart.series[-1].graphicalProperties = GraphicalProperties(solidFill=colour)
    chart.set_categories(Reference(sheet, min_col=1, min_row=2, max_row=rows + 1))
    _label_axes(chart, None, unit)
    chart.x_axis.scaling.orientation = "maxMin"
    chart.y_axis.crosses = "max"
    chart.y_axis.scaling.min = 0
    chart.y_axis.number_format = "0 %" if _shown(table)[places[0] - 1].format is SHARE else "General"
    if len(places) == 1:
        chart.legend = None
    else:
        chart.legend.position = "b"
    sheet.add_chart(chart, f"{get_column_letter(_CHART_COLUMN + offset)}{rows + 5}")


def _label_axes(chart: BarChart | ScatterChart, x_title: str | None, y_title: str) -> None:
    chart.x_axis.title, chart.y_axis.title = x_title, y_title
    chart.x_axis.delete = chart.y_axis.delete = False  # openpyxl leaves axes out by default
    for axis in (chart.x_axis, chart.y_axis):
        if axis.majorGridlines is not None:
            axis.majorGridlines.spPr = GraphicalProperties(ln=LineProperties(solidFill="E3E3E3"))

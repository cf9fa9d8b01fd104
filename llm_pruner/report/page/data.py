"""Data of the page, as plain values; None for a value that was not measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from llm_pruner.mechanisms import MECHANISMS
from llm_pruner.report.page.axes import QUALITIES, SIZES, TASK_PREFIX, Axis
from llm_pruner.report.recommendation import recommendation_table
from llm_pruner.report.style import CONTROLS, ceiling, mechanism_colours
from llm_pruner.report.table import (
    BYTES,
    COUNT,
    SHARE,
    TEXT,
    WHOLE,
    Column,
    Model,
    Results,
    Table,
    layers_table,
    provenance_table,
    summary_table,
)

_KINDS = ((TEXT, "text"), (COUNT, "count"), (SHARE, "share"), (WHOLE, "share"), (BYTES, "bytes"))
_FACTS = ("dataset", "split", "tokens", "device", "seed")
"""Columns of provenance for the head of the page, shown if all models agree."""


def page_data(results: Results) -> dict[str, Any]:
    """Everything the page's scripts read, as JSON values.

    Returns:
        ``base``: name of the model for comparison. ``facts``: pairs of title and text that hold for all models.
        ``mechanisms``: name and colour of each mechanism of the run. ``models``: values by row that are no column.
        ``columns``, ``values`` and ``texts``: the summary, with numbers and formatted cells by row. ``qualities`` and
        ``sizes``: axes. ``layers``: the layers table by block. ``prompts`` and each model's ``continuations`` of them.
        ``best``: titles and formatted cells of the best models by size. ``note``.
    """
    summary = summary_table(results)
    columns = [column for column in summary.columns if not column.raw]
    keys = [column.key for column in columns]
    values = [[_plain(cell) for cell in row] for row in summary.frame[keys].itertuples(index=False)]
    prompts = _prompts(results)
    colours = mechanism_colours(MECHANISMS)
    present = dict.fromkeys(_mechanism(model) for model in results.models)
    return {
        "base": results.base.name,
        "facts": _facts(provenance_table(results)),
        "mechanisms": [{"name": name, "colour": colours.get(name)} for name in [*colours, ""] if name in present],
        "models": [_describe(model, prompts) for model in results.models],
        "columns": [_column(column) for column in columns],
        "values": values,
        "texts": [
            ["" if cell is None else column.format.text(cell) for column, cell in zip(columns, row, strict=True)]
            for row in values
        ],
        "qualities": _axes((*QUALITIES, *_tasks(columns)), columns, summary.frame),
        "sizes": _axes(SIZES, columns, summary.frame),
        "layers": _layers(layers_table(results)),
        "prompts": prompts,
        "best": _best(recommendation_table(results)),
        "note": summary.note,
    }


def _best(table: Table) -> dict[str, Any]:
    """The best models by size, as text."""
    keys = [column.key for column in table.columns]
    rows = [[_plain(cell) for cell in row] for row in table.frame[keys].itertuples(index=False)]
    return {
        "titles": [column.title for column in table.columns],
        "kinds": [_column(column)["kind"] for column in table.columns],
        "rows": [
            ["" if cell is None else column.format.text(cell) for column, cell in zip(table.columns, row, strict=True)]
            for row in rows
        ],
        "note": table.note,
    }


def _plain(cell: Any) -> Any:
    """A cell as a Python value; None for an empty cell."""
    if pd.isna(cell):
        return None
    return cell.item() if hasattr(cell, "item") else cell


def _mechanism(model: Model) -> str:
    return model.mechanism.name if model.mechanism else ""


def _describe(model: Model, prompts: list[str]) -> dict[str, Any]:
    """Values of a row that are no column."""
    said = _continuations(model)
    return {
        "name": model.name,
        "mechanism": _mechanism(model),
        "parent": model.parent,
        "control": model.method in CONTROLS,
        "quantized": model.is_quantized,
        "continuations": [said.get(prompt) for prompt in prompts],
    }


def _column(column: Column) -> dict[str, Any]:
    kind = next((name for shown, name in _KINDS if column.format is shown), "number")
    return {"key": column.key, "title": column.title, "kind": kind, "compact": column.compact}


def _tasks(columns: list[Column]) -> list[Axis]:
    found = [column for column in columns if column.key.startswith(TASK_PREFIX)]
    return [Axis(column.key, column.title, more_is_better=True) for column in found]


def _axes(axes: tuple[Axis, ...], columns: list[Column], frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Axes whose columns the run has, and whether any model was measured there."""
    known = {column.key: place for place, column in enumerate(columns)}
    return [
        {
            "column": known[axis.column],
            "key": axis.column,
            "label": axis.label,
            "more": axis.more_is_better,
            "error": known.get(axis.error or ""),
            "ofWeights": axis.of_weights,
            "measured": bool(frame[axis.column].notna().any()),
            "limit": _limit(axis, frame[axis.column].dropna().astype(float).tolist()),
        }
        for axis in axes
        if axis.column in known
    ]


def _limit(axis: Axis, values: list[float]) -> float | None:
    """Limit beyond which the chart draws a quality at its edge, as an outlier; None without outliers."""
    limit = ceiling([1 - value if axis.more_is_better else value for value in values])
    if math.isinf(limit):
        return None
    return 1 - limit if axis.more_is_better else limit


def _facts(provenance: Table) -> list[tuple[str, str]]:
    """Facts about the measurements that hold for all models."""
    facts = []
    for column in provenance.columns:
        if column.key in _FACTS:
            found = provenance.frame[column.key].dropna().unique()
            if len(found) == 1:
                facts.append((column.title, column.format.text(_plain(found[0]))))
    return facts


def _layers(table: Table) -> dict[str, Any]:
    """Share removed by block, model and layer."""
    layers = [column for column in table.columns if column.key.startswith("layer_")]
    keys = [column.key for column in layers]
    blocks: dict[str, list[list[float | None]]] = {}
    for block, rows in table.frame.groupby("block", sort=False):
        shares = [[_plain(cell) for cell in row] for row in rows[keys].itertuples(index=False)]
        blocks[str(block)] = [[None if share is None else round(share, 4) for share in row] for row in shares]
    return {"titles": [column.title for column in layers], "blocks": blocks}


def _continuations(model: Model) -> Mapping[str, str]:
    written = model.continuations.continuations if model.continuations else ()
    return {one.prompt: one.text for one in written}


def _prompts(results: Results) -> list[str]:
    """Distinct prompts in order of first appearance."""
    return list(dict.fromkeys(prompt for model in results.models for prompt in _continuations(model)))

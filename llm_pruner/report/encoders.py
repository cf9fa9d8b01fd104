"""The classifiers as tables: means over seeds, and every run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llm_pruner.report.table import BYTES, COUNT, ONE, SHARE, TEXT, TWO, Column, Table, build_table

_SHOWN = (
    ("accuracy", "Accuracy", SHARE),
    ("f1", "Macro F1", SHARE),
    ("parameters", "Parameters", COUNT),
    ("bytes_on_disk", "On disk", BYTES),
    ("memory_bytes", "In memory", BYTES),
    ("latency_ms", "Latency ms", TWO),
    ("batch_ms", "Batch ms", TWO),
)
_COMPACT = ("accuracy", "parameters", "bytes_on_disk", "latency_ms")
_REACHED = (("parameters", "Sparsity"), ("heads", "Heads removed"), ("neurons", "FFN neurons removed"))


def encoders_table(report: Mapping[str, Any]) -> Table:
    """One row for each name: means over its seeds, and the spread of its accuracy."""

    def mean(key: str, is_count: bool) -> Callable[[Mapping[str, Any]], Any]:
        return lambda entry: round(entry["mean"][key]) if is_count else entry["mean"][key]

    columns = [
        Column("name", "Classifier", TEXT, lambda entry: entry["name"], compact=True),
        Column("kind", "Kind", TEXT, lambda entry: entry["kind"], compact=True),
        Column("seeds", "Seeds", COUNT, lambda entry: len(entry["seeds"]), compact=True),
        *(_reached(key, title) for key, title in _REACHED),
    ]
    for key, title, shown in _SHOWN:
        whole = shown in (COUNT, BYTES)
        columns.append(Column(key, title, shown, mean(key, whole), compact=key in _COMPACT))
        if key in ("accuracy", "latency_ms") and any(entry["spread"][key] is not None for entry in report["names"]):
            spread = _spread(key)
            columns.append(Column(f"{key}_spread", f"± {title.split()[0].lower()}", shown, spread, compact=True))
    note = (
        f"Test split of {report['task']['name']}, {report['task']['test_examples']} examples (standard error of one "
        f"accuracy: at most {report['standard_error']:.1%}), {len(report['task']['classes'])} classes. ± is the sample "
        f"standard deviation over seeds; a batch is {report['batch_size']} examples. Quantised weights are counted in "
        f"bytes; Parameters are what they stand for."
    )
    return build_table("Encoders", columns, report["names"], note)


def encoder_runs_table(report: Mapping[str, Any]) -> Table:
    """One row for each run, and for each that could not be measured."""
    columns = [
        Column("name", "Classifier", TEXT, lambda run: run.get("name") or run["run"]),
        Column("kind", "Kind", TEXT, lambda run: run.get("kind")),
        Column("seed", "Seed", COUNT, lambda run: run.get("seed")),
        *(_reached(key, title) for key, title in _REACHED),
        *(Column(key, title, shown, _at(key)) for key, title, shown in _SHOWN),
        Column("validation", "Validation accuracy", SHARE, _at("validation")),
        Column("training_seconds", "Training s", ONE, _at("training_seconds")),
        Column("problem", "Problem", TEXT, _at("problem")),
    ]
    note = "Validation chose the weights that were kept; the test split is measured once, for this table."
    return build_table("Encoder runs", columns, [*report["runs"], *report["problems"]], note)


def _at(key: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda run: run.get(key)


def _spread(key: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda entry: entry["spread"][key]


def _reached(key: str, title: str) -> Column:
    return Column(f"removed_{key}", title, SHARE, lambda entry: (entry.get("reached") or {}).get(key))

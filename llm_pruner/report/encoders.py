"""The classifiers as tables: means over seeds, and every run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llm_pruner.encoders.records.report import FinalReport, NameSummary
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


def encoders_table(report: FinalReport) -> Table:
    """One row for each name: means over its seeds, and the spread of its accuracy."""

    def mean(key: str, is_count: bool) -> Callable[[NameSummary], float]:
        return lambda entry: round(getattr(entry.mean, key)) if is_count else getattr(entry.mean, key)

    columns = [
        Column("name", "Classifier", TEXT, lambda entry: entry.name, compact=True),
        Column("kind", "Kind", TEXT, lambda entry: entry.kind, compact=True),
        Column("seeds", "Seeds", COUNT, lambda entry: len(entry.seeds), compact=True),
        *(_reached(key, title) for key, title in _REACHED),
    ]
    for key, title, shown in _SHOWN:
        whole = shown in (COUNT, BYTES)
        columns.append(Column(key, title, shown, mean(key, whole), compact=key in _COMPACT))
        if key in ("accuracy", "latency_ms") and any(len(entry.seeds) > 1 for entry in report.names):
            spread = _spread(key)
            columns.append(Column(f"{key}_spread", f"± {title.split()[0].lower()}", shown, spread, compact=True))
    task = report.task
    note = (
        f"Test split of {task.name}, {task.test_examples} examples (standard error of one "
        f"accuracy: at most {report.standard_error:.1%}), {len(task.classes)} classes. ± is the sample "
        f"standard deviation over seeds; a batch is {report.batch_size} examples. Quantised weights are counted in "
        f"bytes, in Parameters as full weights."
    )
    return build_table("Encoders", columns, report.names, note)


def encoder_runs_table(report: FinalReport) -> Table:
    """One row for each run, and for each run that could not be measured."""
    columns = [
        Column("name", "Classifier", TEXT, lambda run: getattr(run, "name", None) or run.run),
        Column("kind", "Kind", TEXT, _at("kind")),
        Column("seed", "Seed", COUNT, _at("seed")),
        *(_reached(key, title) for key, title in _REACHED),
        *(Column(key, title, shown, _at(key)) for key, title, shown in _SHOWN),
        Column("validation", "Validation accuracy", SHARE, _at("validation")),
        Column("training_seconds", "Training s", ONE, _at("training_seconds")),
        Column("problem", "Problem", TEXT, _at("problem")),
    ]
    note = "The validation split chose the kept weights; the test split is measured once, for this table."
    return build_table("Encoder runs", columns, [*report.runs, *report.problems], note)


def _at(key: str) -> Callable[[Any], Any]:
    """Getter of an entry's attribute; None for entries without it."""
    return lambda entry: getattr(entry, key, None)


def _spread(key: str) -> Callable[[NameSummary], float | None]:
    return lambda entry: getattr(entry.spread, key)


def _reached(key: str, title: str) -> Column:
    return Column(f"removed_{key}", title, SHARE, lambda entry: getattr(_at("reached")(entry), key, None))

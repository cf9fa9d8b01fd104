"""Every result of a run as tables: what was measured for each model, read once, shown alike everywhere.

A ``Column`` says once what a number is called, how it is written and where it comes from; the workbook, the
CSV file and the Markdown table all follow it. What was not measured is an empty cell, never a zero.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from tabulate import tabulate

from llm_pruner.mechanisms import get_mechanism
from llm_pruner.steps.record import steps_of
from llm_pruner.system.errors import DataError
from llm_pruner.system.files import read_json, staged_file, write_text

if TYPE_CHECKING:
    from llm_pruner.mechanisms.base import Mechanism

_FILES = {
    "pruning": "pruning.json",
    "comparison": "analysis/model_comparison.json",
    "perplexity": "evaluation/perplexity.json",
    "zero_shot": "evaluation/zero_shot.json",
    "efficiency": "evaluation/efficiency.json",
}
_BLOCKS = {"Attention": "attention", "MLP": "mlp", "Layer": None}
"""Rows of the layers table: title to key within a layer of the comparison, None for the layer as a whole."""


# --- reading -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """One model folder: the content of its result files, empty where a file is not there."""

    name: str
    pruning: Mapping[str, Any] = field(default_factory=dict)
    comparison: Mapping[str, Any] = field(default_factory=dict)
    perplexity: Mapping[str, Any] = field(default_factory=dict)
    zero_shot: Mapping[str, Any] = field(default_factory=dict)
    efficiency: Mapping[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str | None:
        return self.pruning.get("method")

    @property
    def mechanism(self) -> Mechanism | None:
        """What it was pruned by; None where that is not known."""
        name = self.pruning.get("mechanism")
        return get_mechanism(name) if name else None

    @property
    def is_sparse(self) -> bool:
        """Single weights are zero and every shape is the base's."""
        return self.mechanism is not None and self.mechanism.masks

    @property
    def is_quantized(self) -> bool:
        """Its weights are stored in few bits: a step tells the bytes before and after."""
        return any("bytes" in step for step in steps_of(self.pruning))

    @property
    def parent(self) -> str | None:
        """The variant that a step, such as healing, made this one of; None if it was pruned."""
        return self.pruning.get("parent") if steps_of(self.pruning) else None

    def batches(self) -> dict[int, Mapping[str, Any]]:
        """Timings by batch size."""
        return {batch["batch_size"]: batch for batch in self.efficiency.get("batches") or ()}

    def runs(self) -> list[Mapping[str, Any]]:
        """The provenance records of its jobs."""
        parts = (self.pruning, self.perplexity, self.zero_shot, self.efficiency)
        return [part["run"] for part in parts if part.get("run")]


@dataclass(frozen=True)
class Results:
    """All models of a run, the base first, and the base again for relative numbers."""

    models: tuple[Model, ...]
    base: Model
    scores: tuple[Mapping[str, Any], ...] = ()
    """Contents of the scores files that the models were made from."""

    @property
    def tasks(self) -> list[str]:
        """Zero-shot tasks in order of first appearance."""
        return _union(model.zero_shot.get("tasks") or () for model in self.models)

    def parent_of(self, model: Model) -> Model | None:
        """The model that a step was applied to, if this is its result and that is part of the run."""
        return next((other for other in self.models if other.name == model.parent), None)

    @property
    def batch_sizes(self) -> list[int]:
        return sorted(_union(model.batches() for model in self.models))


def read_results(
    model_dirs: Sequence[str | os.PathLike[str]], base: str = "Dense", scores: Iterable[Path] = ()
) -> Results:
    """Read every result file of the given model folders; a file that is missing is empty, not an error.

    Args:
        model_dirs: folders of variants.
        base: name of the model that all are compared with.
        scores: files of ``resources/scores``, for the figures.

    Raises:
        DataError: for a damaged file, naming it.
    """
    models = sorted((_read_model(Path(folder)) for folder in model_dirs), key=lambda model: model.name != base)
    found = next((model for model in models if model.name == base), Model(base))
    return Results(tuple(models), found, tuple(_read_object(path) for path in scores))


def _read_model(folder: Path) -> Model:
    files = {key: folder / name for key, name in _FILES.items()}
    found = {key: _read_object(file) for key, file in files.items() if file.exists()}
    if found.get("pruning") and "mechanism" not in found["pruning"]:
        raise DataError(f"{files['pruning']}: does not say by which mechanism; prune again to make it anew")
    return Model(folder.name, **found)


def _read_object(file: Path) -> dict[str, Any]:
    value = read_json(file)
    if not isinstance(value, dict):
        raise DataError(f"{file}: holds no JSON object; delete it and run again to make it anew")
    return value


def dig(value: Any, *keys: str) -> Any:
    """The value under nested keys, None as soon as one is missing or null."""
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _union(sequences: Iterable[Iterable[Any]]) -> list[Any]:
    """Distinct elements in order of first appearance."""
    return list(dict.fromkeys(element for sequence in sequences for element in sequence))


# --- columns -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Format:
    """How one kind of value is stored and written."""

    dtype: Any
    """Nullable pandas type."""
    excel: str
    """Number format of a spreadsheet cell."""
    text: Callable[[Any], str]
    """The same for plain text."""


def _bytes_text(value: float) -> str:
    if value >= 1e9:
        return f"{value / 1e9:,.2f} GB"
    return f"{value / 1e6:,.1f} MB"


def _decimal(places: int, unit: str = "") -> Format:
    """Fixed decimals with an optional unit behind them."""
    digits = f"#,##0.{'0' * places}"
    return Format("Float64", f'{digits}"{unit}"' if unit else digits, lambda value: f"{value:,.{places}f}{unit}")


TEXT = Format("string", "@", str)
COUNT = Format("Int64", "#,##0", "{:,}".format)
SHARE = Format("Float64", "0.00 %", lambda value: f"{100 * value:.2f} %")
BYTES = Format("Int64", '[>=1000000000]#,##0.00,,," GB";#,##0.0,," MB"', _bytes_text)
ONE, TWO, THREE, FOUR = (_decimal(places) for places in (1, 2, 3, 4))
WHOLE = Format("Float64", "0 %", lambda value: f"{100 * value:.0f} %")
TIMES = _decimal(2, " ×")


@dataclass(frozen=True)
class Column:
    """One column of a table: its name in files, its heading, how it is written, and where it comes from."""

    key: str
    title: str
    format: Format
    value: Callable[[Any], Any]
    """Takes the row's record, for most tables a ``Model``; returns None for an empty cell."""
    compact: bool = False
    """Also part of the compact Markdown table."""
    raw: bool = False
    """Only in CSV: a number that the other tables show inside a readable cell."""


@dataclass(frozen=True)
class Table:
    """Values and how to show them; the frame's columns are the keys of ``columns``, in order."""

    title: str
    columns: tuple[Column, ...]
    frame: pd.DataFrame
    note: str = ""


def build_table(title: str, columns: Sequence[Column], records: Sequence[Any], note: str = "") -> Table:
    frame = pd.DataFrame(
        {
            column.key: pd.array([column.value(record) for record in records], dtype=column.format.dtype)
            for column in columns
        }
    )
    return Table(title, tuple(columns), frame, note)


def _at(part: str, *keys: str) -> Callable[[Model], Any]:
    """Getter of a value in one of a model's result files."""
    return lambda model: dig(getattr(model, part), *keys)


def _timing(batch_size: int, key: str, scale: float = 1.0) -> Callable[[Model], float | None]:
    """Getter of a timing at one batch size, in the file's unit times ``scale``."""

    def value(model: Model) -> float | None:
        measured = model.batches().get(batch_size, {}).get(key)
        return None if measured is None else scale * measured

    return value


def _ratio(numerator: Any, denominator: Any) -> float | None:
    return numerator / denominator if numerator is not None and denominator else None


def _relative(getter: Callable[[Model], Any], base: Model) -> Callable[[Model], float | None]:
    """Getter of a model's value divided by the base's."""
    return lambda model: _ratio(getter(model), getter(base))


def _speed_up(getter: Callable[[Model], Any], base: Model) -> Callable[[Model], float | None]:
    """Getter of the base's time divided by the model's."""
    return lambda model: _ratio(getter(base), getter(model))


def paired(model: Model, base: Model) -> tuple[float | None, float | None]:
    """How many nats a token a model loses more than the base, and the standard error of that over windows of the text.

    The same windows are compared one by one: how hard the text of a window is, which both feel, does not count as
    error. None where they were not measured on the same windows; no error of the base itself or of a single window.
    """
    same = ("dataset", "split", "window", "stride", "windows", "tokens")
    ours, theirs = model.perplexity.get("window_nll"), base.perplexity.get("window_nll")
    if not ours or not theirs or any(model.perplexity.get(key) != base.perplexity.get(key) for key in same):
        return None, None
    if model is base:
        return 0.0, None
    differences = [own - other for own, other in zip(ours, theirs, strict=True)]
    error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else None
    return model.perplexity["nll"] - base.perplexity["nll"], error


TELLING_ERRORS = 2
"""A difference of at least this many of its standard errors tells two rows apart."""


def told_apart(model: Model, other: Model) -> bool | None:
    """Whether the perplexities of two models differ by more than chance; None where their difference has no error."""
    difference, error = paired(model, other)
    if difference is None or error is None:
        return None
    return difference != 0 and abs(difference) >= TELLING_ERRORS * error


def ties_of(model: Model, others: Iterable[Model]) -> list[str]:
    """Names of those of ``others`` that a model is not told apart from, without itself."""
    return [other.name for other in others if other is not model and told_apart(model, other) is False]


def best_of(models: Iterable[Model]) -> Model | None:
    """The model of lowest perplexity, the first of equals; None where none was measured."""
    measured = [model for model in models if model.perplexity.get("perplexity") is not None]
    return min(measured, key=lambda model: model.perplexity["perplexity"], default=None)


SIZES = (0.9, 0.8, 0.65)
"""Shares of the base's bytes on disk at which the best model is named."""


@dataclass(frozen=True)
class Best:
    """The best model of at most a size: of those no larger on disk, the one of lowest perplexity."""

    share: float
    """Of the base's bytes on disk."""
    limit: float
    """The same in bytes."""
    model: Model | None
    """None where no measured model is that small."""
    ties: tuple[str, ...]
    """Others of at most that size that it is not told apart from."""


def size_on_disk(model: Model) -> int | None:
    """Bytes of a model's weights."""
    size: int | None = dig(model.comparison, "totals", "bytes_on_disk", "after")
    return size


def best_at_sizes(results: Results, shares: Sequence[float] = SIZES) -> list[Best]:
    """The best model at each share of the base's size; nothing where that is not known."""
    whole = size_on_disk(results.base)
    if whole is None:
        return []
    found = []
    for share in shares:
        fitting = [model for model in results.models if (size_on_disk(model) or math.inf) <= share * whole]
        best = best_of(fitting)
        found.append(Best(share, share * whole, best, tuple(ties_of(best, fitting)) if best else ()))
    return found


def amount_text(pruning: Mapping[str, Any], key: str) -> str | None:
    """How much was ``asked`` for or ``reached``, for people.

    >>> amount_text({"mechanism": "depth", "asked": {"amount": 2, "of": "layers"}}, "asked")
    '2 layers'
    """
    amount = pruning.get(key)
    return get_mechanism(pruning["mechanism"]).describe(amount["amount"], amount["of"]) if amount else None


# --- tables ------------------------------------------------------------------------------------------------


def collect(model_dirs: Sequence[str | os.PathLike[str]], base: str = "Dense") -> pd.DataFrame:
    """One row per model folder, in the given order but the base first; the frame of ``summary_table``."""
    return summary_table(read_results(model_dirs, base)).frame


def summary_table(results: Results) -> Table:
    """Size, quality and speed of every model, one row each."""
    base = results.base
    perplexity = _at("perplexity", "perplexity")
    accuracy = _at("zero_shot", "mean", "acc")

    def before(model: Model) -> float | None:
        parent = results.parent_of(model)
        return perplexity(parent) if parent else None

    def recovered(model: Model) -> float | None:
        """Share of what pruning lost that healing won back."""
        if model.is_quantized:
            return None
        worst, lowest, own = before(model), perplexity(base), perplexity(model)
        return None if None in (worst, lowest, own) or worst <= lowest else (worst - own) / (worst - lowest)

    best = best_of(model for model in results.models if model is not base)
    references = [base, *([best] if best else [])]
    ties = {model.name: ", ".join(ties_of(model, references)) or None for model in results.models}

    healing = (
        Column("perplexity_before", "Before step", TWO, before, compact=True),
        Column("recovered", "Recovered", WHOLE, recovered),
    )
    prefill, decode = _timing(1, "prefill_seconds", 1000), _timing(1, "decode_seconds_per_token", 1000)
    columns = [
        Column("variant", "Variant", TEXT, lambda model: model.name, compact=True),
        Column("method", "Method", TEXT, _at("pruning", "method")),
        Column("mechanism", "Mechanism", TEXT, _at("pruning", "mechanism"), raw=True),
        Column("structure", "Structure", TEXT, _at("pruning", "structure")),
        Column("asked", "Asked", TEXT, lambda model: amount_text(model.pruning, "asked"), compact=True),
        Column("reached", "Reached", TEXT, lambda model: amount_text(model.pruning, "reached")),
        Column("asked_amount", "Asked amount", FOUR, _at("pruning", "asked", "amount"), raw=True),
        Column("reached_amount", "Reached amount", FOUR, _at("pruning", "reached", "amount"), raw=True),
        Column("amount_of", "Amount of", TEXT, _at("pruning", "reached", "of"), raw=True),
        Column(
            "parameters",
            "Parameters",
            COUNT,
            _at("comparison", "totals", "parameters", "after"),
            compact=True,
        ),
        Column(
            "parameter_reduction",
            "Parameters removed",
            SHARE,
            _at("comparison", "totals", "parameters", "reduction_ratio"),
            compact=True,
        ),
        Column("nonzero", "Non-zero", COUNT, _at("comparison", "totals", "nonzero", "after"), compact=True),
        Column("bytes_on_disk", "On disk", BYTES, size_on_disk),
        Column("layers", "Layers", COUNT, _at("comparison", "num_layers", "after")),
        Column("perplexity", "Perplexity", TWO, perplexity, compact=True),
        *(healing if any(model.parent for model in results.models) else ()),
        Column("nll_difference", f"nll − {base.name}", THREE, lambda model: paired(model, base)[0], compact=True),
        Column("nll_difference_stderr", "± s.e.", THREE, lambda model: paired(model, base)[1], compact=True),
        Column("ties", "Tie with", TEXT, lambda model: ties[model.name], compact=any(ties.values())),
        Column("perplexity_ratio", f"Perplexity / {base.name}", TIMES, _relative(perplexity, base)),
        Column("bits_per_byte", "Bits per byte", THREE, _at("perplexity", "bits_per_byte")),
        Column("zero_shot_acc", "Zero-shot acc", SHARE, accuracy, compact=True),
        Column("zero_shot_stderr", "± s.e.", SHARE, _at("zero_shot", "mean", "acc_stderr"), compact=True),
        Column("zero_shot_acc_norm", "Zero-shot acc_norm", SHARE, _at("zero_shot", "mean", "acc_norm")),
        Column("zero_shot_retention", "Accuracy kept", SHARE, _relative(accuracy, base), compact=True),
        *(
            Column(f"acc_{task}", f"{task} acc", SHARE, _at("zero_shot", "tasks", task, "acc"))
            for task in results.tasks
        ),
        Column("prefill_ms", "Prefill ms", ONE, prefill),
        Column("prefill_speedup", "Prefill speed-up", TIMES, _speed_up(prefill, base)),
        Column("decode_ms", "Decode ms per token", TWO, decode, compact=True),
        Column("decode_speedup", "Decode speed-up", TIMES, _speed_up(decode, base), compact=True),
        *(
            Column(
                f"throughput_{size}",
                f"Tokens/s at batch {size}",
                ONE,
                _timing(size, "decode_tokens_per_second"),
                compact=size == max(results.batch_sizes),
            )
            for size in results.batch_sizes
        ),
        Column("peak_memory_bytes", "Peak memory", BYTES, _at("efficiency", "peak_memory_bytes")),
        Column("load_seconds", "Load s", TWO, _at("efficiency", "load_seconds")),
        Column("pruning_seconds", "Pruning s", ONE, _at("pruning", "seconds", "total")),
    ]
    note = (
        "Sparse models keep their shapes: nothing is removed, their zeros show in Non-zero. "
        f"nll − {base.name} is what a model loses in nats a token, with the standard error over the windows that both "
        f"saw. Tie with names {base.name} and the pruned row of lowest perplexity where less than "
        f"{TELLING_ERRORS} such errors lie between: the order of tied rows is chance. "
        f"Accuracy kept and speed-up are relative to {base.name}. Recovered is the share of the perplexity lost by "
        "pruning that healing won back. An empty cell was not measured."
    )
    return build_table("Summary", columns, results.models, note)


def layers_table(results: Results) -> Table:
    """Per-layer reduction: a row per block and model, a column per layer of the base."""
    layers = max((len(model.comparison.get("layers") or ()) for model in results.models), default=0)

    def reduction(layer: int) -> Callable[[tuple[str, Model]], float | None]:
        def value(record: tuple[str, Model]) -> float | None:
            block, model = record
            held = {one["layer_idx"]: one for one in model.comparison.get("layers") or ()}.get(layer)
            key = _BLOCKS[block]
            return dig(held, "nonzero_reduction_ratio") if key is None else dig(held, key, "nonzero_reduction_ratio")

        return value

    columns = [
        Column("block", "Block", TEXT, lambda record: record[0]),
        Column("variant", "Variant", TEXT, lambda record: record[1].name),
        Column("structure", "Structure", TEXT, lambda record: dig(record[1].pruning, "structure")),
        *(Column(f"layer_{layer}", f"{layer}", WHOLE, reduction(layer)) for layer in range(layers)),
    ]
    records = [(block, model) for block in _BLOCKS for model in results.models]
    note = "Share of each block's non-zero parameters that were removed or zeroed, by the base's layer number."
    return build_table("Layers", columns, records, note)


def zero_shot_table(results: Results) -> Table:
    """Accuracy, normalised accuracy and perplexity of every task with their standard errors."""
    columns = [
        Column("variant", "Variant", TEXT, lambda model: model.name),
        Column("mean_acc", "Mean acc", SHARE, _at("zero_shot", "mean", "acc")),
        Column("mean_acc_norm", "Mean acc_norm", SHARE, _at("zero_shot", "mean", "acc_norm")),
        Column("retention", "Accuracy kept", SHARE, _relative(_at("zero_shot", "mean", "acc"), results.base)),
    ]
    for task in results.tasks:
        for metric, shown in (("acc", SHARE), ("acc_norm", SHARE), ("perplexity", TWO)):
            value = _at("zero_shot", "tasks", task, metric)
            error = _at("zero_shot", "tasks", task, f"{metric}_stderr")
            if any(value(model) is not None for model in results.models):
                columns.append(Column(f"{task}_{metric}", f"{task} {metric}", shown, value))
                columns.append(Column(f"{task}_{metric}_stderr", f"± {metric}", shown, error))
    note = "± is one standard error. The mean of acc_norm uses acc for a task that has no acc_norm."
    return build_table("Zero-shot", columns, results.models, note)


def efficiency_table(results: Results) -> Table:
    """Timings at every batch size, memory, load time and size on disk."""
    columns = [
        Column("variant", "Variant", TEXT, lambda model: model.name),
        *(
            Column(f"{key}_{size}", f"{title}, batch {size}", shown, _timing(size, source, scale))
            for size in results.batch_sizes
            for key, title, shown, source, scale in (
                ("prefill_ms", "Prefill ms", ONE, "prefill_seconds", 1000),
                ("prefill_tokens_per_second", "Prefill tokens/s", ONE, "prefill_tokens_per_second", 1),
                ("decode_ms", "Decode ms per token", TWO, "decode_seconds_per_token", 1000),
                ("decode_tokens_per_second", "Decode tokens/s", ONE, "decode_tokens_per_second", 1),
            )
        ),
        Column("peak_memory_bytes", "Peak memory", BYTES, _at("efficiency", "peak_memory_bytes")),
        Column("load_seconds", "Load s", TWO, _at("efficiency", "load_seconds")),
        Column("bytes_on_disk", "On disk", BYTES, _at("efficiency", "bytes_on_disk")),
        Column("prompt_length", "Prompt tokens", COUNT, _at("efficiency", "prompt_length")),
        Column("new_tokens", "New tokens", COUNT, _at("efficiency", "new_tokens")),
        Column("device", "Device", TEXT, _at("efficiency", "device")),
        Column("threads", "Threads", COUNT, _at("efficiency", "threads")),
    ]
    note = "Prefill is the time to the first token of a prompt, decode the time of every further one."
    return build_table("Efficiency", columns, results.models, note)


def provenance_table(results: Results) -> Table:
    """What every number rests on: when, where, how long, with which data, options, seed and versions."""
    packages = _union(run.get("versions") or () for model in results.models for run in model.runs())
    columns = [
        Column("variant", "Variant", TEXT, lambda model: model.name),
        Column("parent", "Parent", TEXT, _at("pruning", "parent")),
        Column("started", "Started", TEXT, lambda model: min(_from_runs(model, ["started"]), default=None)),
        Column("scoring_seconds", "Scoring s", ONE, _at("pruning", "seconds", "scoring")),
        Column("pruning_seconds", "Pruning s", ONE, _at("pruning", "seconds", "pruning")),
        Column("perplexity_seconds", "Perplexity s", ONE, _at("perplexity", "run", "seconds")),
        Column("zero_shot_seconds", "Zero-shot s", ONE, _at("zero_shot", "run", "seconds")),
        Column("efficiency_seconds", "Efficiency s", ONE, _at("efficiency", "run", "seconds")),
        Column("seed", "Seed", TEXT, partial(_distinct, keys=["seed"])),
        Column("device", "Device", TEXT, partial(_distinct, keys=["device"])),
        Column("cores", "Cores", TEXT, partial(_distinct, keys=["machine", "cores"])),
        Column("system", "System", TEXT, partial(_distinct, keys=["machine", "system"])),
        Column("dataset", "Perplexity data", TEXT, _at("perplexity", "dataset")),
        Column("split", "Split", TEXT, _at("perplexity", "split")),
        Column("window", "Window", COUNT, _at("perplexity", "window")),
        Column("stride", "Stride", COUNT, _at("perplexity", "stride")),
        Column("tokens", "Tokens", COUNT, _at("perplexity", "tokens")),
        Column("tasks", "Zero-shot tasks", TEXT, _tasks_text),
        Column("scores", "Scores", TEXT, lambda model: ", ".join(model.pruning.get("scores") or ()) or None),
        Column("options", "Options", TEXT, _options_text),
        Column("notes", "Notes", TEXT, lambda model: " ".join(model.pruning.get("notes") or ()) or None),
        *(
            Column(f"version_{package}", package, TEXT, partial(_distinct, keys=("versions", package)))
            for package in packages
        ),
    ]
    note = "Where the jobs of one model differ, each value is given."
    return build_table("Provenance", columns, results.models, note)


def _from_runs(model: Model, keys: Sequence[str]) -> list[Any]:
    """Distinct values in the provenance of a model's jobs."""
    values = (dig(run, *keys) for run in model.runs())
    return list(dict.fromkeys(value for value in values if value is not None))


def _distinct(model: Model, keys: Sequence[str]) -> str | None:
    return " / ".join(str(value) for value in _from_runs(model, keys)) or None


def _tasks_text(model: Model) -> str | None:
    tasks = model.zero_shot.get("tasks") or {}
    return ", ".join(f"{name} ({_size_text(task)})" for name, task in tasks.items()) or None


def _size_text(task: Mapping[str, Any]) -> str:
    return f"{task.get('items', '?')} items, {task.get('num_fewshot', '?')}-shot"


def _options_text(model: Model) -> str | None:
    options = model.pruning.get("options")
    return ", ".join(f"{key}={json.dumps(value)}" for key, value in options.items()) if options else None


# --- plain files -------------------------------------------------------------------------------------------


def write_csv(table: Table, path: str | os.PathLike[str]) -> None:
    """Every column under its key, numbers unrounded, shares between 0 and 1, empty where not measured."""
    with staged_file(path) as staged:
        table.frame.to_csv(staged, index=False, lineterminator="\n")


def markdown(table: Table) -> str:
    """The compact columns as a Markdown table for people."""
    columns = [column for column in table.columns if column.compact]
    rows = [
        ["" if pd.isna(value) else column.format.text(value) for column, value in zip(columns, row, strict=True)]
        for row in table.frame[[column.key for column in columns]].itertuples(index=False)
    ]
    alignment = ["left" if column.format is TEXT else "right" for column in columns]
    headings = [column.title for column in columns]
    return tabulate(rows, headings, "pipe", disable_numparse=True, colalign=alignment if rows else None) + "\n"


def write_markdown(table: Table, path: str | os.PathLike[str]) -> None:
    write_text(path, markdown(table))

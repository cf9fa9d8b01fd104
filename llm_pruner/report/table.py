"""All results of a run as tables: every result file is read once, and every output shows the same tables.

A ``Column`` defines a number's name, format and source once, for the workbook, the CSV file and the Markdown table. A
value that was not measured is an empty cell, never a zero.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from tabulate import tabulate

from llm_pruner.analysis.records import BlockComparison, LayerComparison, ModelComparison
from llm_pruner.evaluation.records.continuations import Continuations
from llm_pruner.evaluation.records.efficiency import BatchTimes, EfficiencyResult
from llm_pruner.evaluation.records.perplexity import DivergenceResult, PerplexityResult
from llm_pruner.evaluation.records.zero_shot import TaskScores, ZeroShotResult
from llm_pruner.mechanisms import get_mechanism
from llm_pruner.mechanisms.records import ScoresFile, read_scores
from llm_pruner.system.errors import DataError
from llm_pruner.system.files import staged_file, write_text
from llm_pruner.system.records import Record, RunRecord
from llm_pruner.system.text import csv_cell, markdown_cell, printable
from llm_pruner.variants.records import AmountRecord, PruningRecord
from llm_pruner.variants.repeats import split_repeat

if TYPE_CHECKING:
    from llm_pruner.mechanisms.base import Mechanism

_FILES: dict[str, tuple[str, type[Record]]] = {
    "pruning": ("pruning.json", PruningRecord),
    "comparison": ("analysis/model_comparison.json", ModelComparison),
    "perplexity": ("evaluation/perplexity.json", PerplexityResult),
    "zero_shot": ("evaluation/zero_shot.json", ZeroShotResult),
    "efficiency": ("evaluation/efficiency.json", EfficiencyResult),
    "continuations": ("evaluation/continuations.json", Continuations),
}
"""Fields of a ``Model``: the file within its folder, and the file's record."""
_BLOCKS: dict[str, Callable[[LayerComparison], BlockComparison]] = {
    "Attention": lambda layer: layer.attention,
    "MLP": lambda layer: layer.mlp,
    "Layer": lambda layer: layer,
}
"""Rows of the layers table."""


# --- reading -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """The contents of one model's result files; None for a missing file."""

    name: str
    pruning: PruningRecord | None = None
    comparison: ModelComparison | None = None
    perplexity: PerplexityResult | None = None
    zero_shot: ZeroShotResult | None = None
    efficiency: EfficiencyResult | None = None
    continuations: Continuations | None = None

    @property
    def method(self) -> str | None:
        return self.pruning.method if self.pruning else None

    @property
    def mechanism(self) -> Mechanism | None:
        """The mechanism of the pruning; None without pruning.json."""
        return get_mechanism(self.pruning.mechanism) if self.pruning else None

    @property
    def is_sparse(self) -> bool:
        """Whether single weights are zero and every shape is the base's."""
        return self.mechanism is not None and self.mechanism.masks

    @property
    def is_quantized(self) -> bool:
        """Whether the weights are stored in few bits, so that a step's record has bytes before and after."""
        return self.pruning is not None and any(step.bytes for step in self.pruning.steps)

    @property
    def parent(self) -> str | None:
        """The variant that a step, such as healing, made this model from; None if the model has no steps."""
        return self.pruning.parent if self.pruning and self.pruning.steps else None

    @property
    def layers(self) -> Sequence[LayerComparison]:
        """Comparison of each layer of the base; empty without an analysis."""
        return self.comparison.layers if self.comparison else ()

    def batches(self) -> dict[int, BatchTimes]:
        """Timings by batch size."""
        return {batch.batch_size: batch for batch in self.efficiency.batches} if self.efficiency else {}

    def base_batches(self) -> dict[int, BatchTimes]:
        """Timings of the base by batch size, measured in turn with the model's; empty if it was measured alone."""
        return {batch.batch_size: batch for batch in self.efficiency.base_batches} if self.efficiency else {}

    def runs(self) -> list[RunRecord]:
        """Provenance records of the model's jobs."""
        return [part.run for part in (self.pruning, self.perplexity, self.zero_shot, self.efficiency) if part]


@dataclass(frozen=True)
class Results:
    """All models of a run, the base first, and the base by itself for relative numbers."""

    models: tuple[Model, ...]
    base: Model
    scores: tuple[ScoresFile, ...] = ()
    """Contents of the scores files that the models were made from."""
    repeats: tuple[Model, ...] = ()
    """Repeats of the models, calibrated on other samples."""

    @property
    def tasks(self) -> list[str]:
        """Zero-shot tasks in order of first appearance."""
        return _union(model.zero_shot.tasks for model in self.models if model.zero_shot)

    def parent_of(self, model: Model) -> Model | None:
        """The parent of a model with a step, if the run has it."""
        return next((other for other in self.models if other.name == model.parent), None)

    def draws_of(self, model: Model) -> list[Model]:
        """A model and its repeats, calibrated on other samples."""
        return [model, *(other for other in self.repeats if split_repeat(other.name)[0] == model.name)]

    @property
    def batch_sizes(self) -> list[int]:
        return sorted(_union(model.batches() for model in self.models))


def read_results(
    model_dirs: Sequence[str | os.PathLike[str]],
    base: str = "Dense",
    scores: Iterable[Path] = (),
    *,
    of_run: bool = False,
) -> Results:
    """Read every result file of the given model folders. A missing file is no error.

    Args:
        model_dirs: folders of variants.
        base: name of the model for comparison.
        scores: files of ``resources/scores``, for the figures.
        of_run: whether the folders are those of a run, where each file names the model that its folder is called by.

    Raises:
        DataError: for a damaged file, or in a run for the file of another model. Names the file.
    """
    everything = [_read_model(Path(folder), of_run) for folder in model_dirs]
    models = [model for model in everything if split_repeat(model.name)[1] is None]
    models.sort(key=lambda model: model.name != base)
    found = next((model for model in models if model.name == base), Model(base))
    repeats = tuple(model for model in everything if split_repeat(model.name)[1] is not None)
    return Results(tuple(models), found, tuple(map(read_scores, scores)), repeats)


def _read_model(folder: Path, of_run: bool) -> Model:
    files = {part: (folder / file, record) for part, (file, record) in _FILES.items()}
    found: dict[str, Any] = {part: record.read(file) for part, (file, record) in files.items() if file.exists()}
    for part, held in found.items() if of_run else ():
        key = "variant" if part == "pruning" else "model"
        if (name := getattr(held, key)) != folder.name:
            raise DataError(
                f"{files[part][0]}: {key}: '{name}', in the folder of '{folder.name}'; delete it and run again to make "
                "it anew"
            )
    return Model(folder.name, **found)


def _union(sequences: Iterable[Iterable[Any]]) -> list[Any]:
    """Distinct elements in order of first appearance."""
    return list(dict.fromkeys(element for sequence in sequences for element in sequence))


# --- columns -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Format:
    """Storage and text form of one kind of value."""

    dtype: Any
    """Nullable pandas type."""
    excel: str
    """Number format of a spreadsheet cell."""
    text: Callable[[Any], str]
    """Converts a value to plain text."""


def _bytes_text(value: float) -> str:
    if value >= 1e9:
        return f"{value / 1e9:,.2f} GB"
    return f"{value / 1e6:,.1f} MB"


def _decimal(places: int, unit: str = "") -> Format:
    """A format with fixed decimals and an optional unit."""
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
    """One column of a table: its name in files, its heading, its format and its source."""

    key: str
    title: str
    format: Format
    value: Callable[[Any], Any]
    """Function from the row's record, for most tables a ``Model``, to the value; None for an empty cell."""
    compact: bool = False
    """Whether the compact Markdown table has the column too."""
    raw: bool = False
    """Whether only CSV has the column: a number that other tables show inside a readable cell."""


@dataclass(frozen=True)
class Table:
    """Values and their columns. The frame's columns are the keys of ``columns``, in order."""

    title: str
    columns: tuple[Column, ...]
    frame: pd.DataFrame
    note: str = ""


def build_table(title: str, columns: Sequence[Column], records: Sequence[Any], note: str = "") -> Table:
    """The values of the records. No text of theirs, and no title, holds a control character."""

    def values(column: Column) -> list[Any]:
        found = [column.value(record) for record in records]
        return [printable(value) if isinstance(value, str) else value for value in found]

    frame = pd.DataFrame({column.key: pd.array(values(column), dtype=column.format.dtype) for column in columns})
    named = tuple(replace(column, title=printable(column.title)) for column in columns)
    return Table(title, named, frame, printable(note))


def _pruning(value: Callable[[PruningRecord], Any]) -> Callable[[Model], Any]:
    """Getter of a value from a model's ``pruning.json``; None without the file. The next functions do the same."""
    return lambda model: model.pruning and value(model.pruning)


def _comparison(value: Callable[[ModelComparison], Any]) -> Callable[[Model], Any]:
    return lambda model: model.comparison and value(model.comparison)


def _perplexity(value: Callable[[PerplexityResult], Any]) -> Callable[[Model], Any]:
    return lambda model: model.perplexity and value(model.perplexity)


def _divergence(value: Callable[[DivergenceResult], Any]) -> Callable[[Model], Any]:
    """Getter of a divergence from the base's predictions."""
    return _perplexity(lambda held: value(held.divergence) if held.divergence else None)


def _zero_shot(value: Callable[[ZeroShotResult], Any]) -> Callable[[Model], Any]:
    return lambda model: model.zero_shot and value(model.zero_shot)


def _efficiency(value: Callable[[EfficiencyResult], Any]) -> Callable[[Model], Any]:
    return lambda model: model.efficiency and value(model.efficiency)


def _amount(value: Callable[[PruningRecord], AmountRecord | None]) -> Callable[[Model], float | None]:
    """Getter of a requested or reached amount, as a number."""

    def number(model: Model) -> float | None:
        amount = value(model.pruning) if model.pruning else None
        return amount.amount if amount else None

    return number


def _task(name: str, value: Callable[[TaskScores], float | None]) -> Callable[[Model], float | None]:
    """Getter of a score in one zero-shot task."""

    def score(model: Model) -> float | None:
        own = model.zero_shot.tasks.get(name) if model.zero_shot else None
        return value(own) if own else None

    return score


def _timing(batch_size: int, value: Callable[[BatchTimes], float]) -> Callable[[Model], float | None]:
    """Getter of a timing at one batch size."""

    def measured(model: Model) -> float | None:
        batch = model.batches().get(batch_size)
        return value(batch) if batch else None

    return measured


def _ratio(numerator: Any, denominator: Any) -> float | None:
    return numerator / denominator if numerator is not None and denominator else None


def _relative(getter: Callable[[Model], Any], base: Model) -> Callable[[Model], float | None]:
    """Getter of a model's value divided by the base's."""
    return lambda model: _ratio(getter(model), getter(base))


def _time_share(value: Callable[[BatchTimes], float], base: Model) -> Callable[[Model], float | None]:
    """Getter of a model's time at batch 1 divided by the base's: measured in turn with it, or else by itself."""
    alone = _timing(1, value)

    def share(model: Model) -> float | None:
        beside = model.base_batches().get(1)
        return _ratio(alone(model), value(beside) if beside else alone(base))

    return share


def _inverse(getter: Callable[[Model], float | None]) -> Callable[[Model], float | None]:
    return lambda model: _ratio(1, getter(model))


def paired(model: Model, base: Model) -> tuple[float | None, float | None]:
    """Difference of a model's loss to the base's, in nats a token, and its standard error over windows of the text.

    Each window is compared with itself, so the difficulty of its text does not count as error. The difference is None
    unless both models were measured on the same windows; the error is None for the base itself or a single window.
    """
    ours, theirs = model.perplexity, base.perplexity
    if not (ours and theirs and ours.window_nll and theirs.window_nll and ours.text == theirs.text):
        return None, None
    if model is base:
        return 0.0, None
    differences = [own - other for own, other in zip(ours.window_nll, theirs.window_nll, strict=True)]
    error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else None
    return ours.nll - theirs.nll, error


def spread(results: Results, model: Model) -> float | None:
    """Standard deviation of nll, in nats a token, between the draws of calibration samples; None for a single draw."""
    losses = [draw.perplexity.nll for draw in results.draws_of(model) if draw.perplexity]
    return statistics.stdev(losses) if len(losses) > 1 else None


TELLING_ERRORS = 2
"""Number of standard errors from which a difference separates two rows; rows closer together are ties."""


def told_apart(model: Model, other: Model) -> bool | None:
    """Whether the perplexities of two models differ by more than chance; None if their difference has no error."""
    difference, error = paired(model, other)
    if difference is None or error is None:
        return None
    return difference != 0 and abs(difference) >= TELLING_ERRORS * error


def ties_of(model: Model, others: Iterable[Model]) -> list[str]:
    """Names of the ``others`` that are ties with a model, without the model itself."""
    return [other.name for other in others if other is not model and told_apart(model, other) is False]


def best_of(models: Iterable[Model]) -> Model | None:
    """The model with the lowest perplexity, the first of equals; None if no model was measured."""
    measured = [(model.perplexity.perplexity, model) for model in models if model.perplexity]
    return min(measured, key=itemgetter(0))[1] if measured else None


def best_first(models: Iterable[Model]) -> list[Model]:
    """Models by perplexity, the lowest first; unmeasured models last, and equals in their order."""
    return sorted(models, key=lambda model: model.perplexity.perplexity if model.perplexity else math.inf)


def size_on_disk(model: Model) -> int | None:
    """Bytes of a model's weights."""
    return model.comparison.totals.bytes_on_disk.after if model.comparison else None


def _prefill_ms(times: BatchTimes) -> float:
    return 1000 * times.prefill_seconds


def _decode_ms(times: BatchTimes) -> float:
    return 1000 * times.decode_seconds_per_token


def _usual_prefill(times: BatchTimes) -> float:
    """Median over the repeats: of two models measured in turn, the fastest runs may be of different moments."""
    return times.prefill_seconds_median or times.prefill_seconds


def _usual_decode(times: BatchTimes) -> float:
    """The same of decoding."""
    return times.decode_seconds_per_token_median or times.decode_seconds_per_token


_TIMES: tuple[tuple[str, str, Format, Callable[[BatchTimes], float]], ...] = (
    ("prefill_ms", "Prefill ms", ONE, _prefill_ms),
    ("prefill_tokens_per_second", "Prefill tokens/s", ONE, lambda times: times.prefill_tokens_per_second),
    ("decode_ms", "Decode ms per token", TWO, _decode_ms),
    ("decode_tokens_per_second", "Decode tokens/s", ONE, lambda times: times.decode_tokens_per_second),
)
"""Columns of every batch size."""


# --- tables ------------------------------------------------------------------------------------------------


def collect(model_dirs: Sequence[str | os.PathLike[str]], base: str = "Dense") -> pd.DataFrame:
    """The frame of ``summary_table``: one row for each model folder, the base first, the others in the given order."""
    return summary_table(read_results(model_dirs, base)).frame


def summary_table(results: Results) -> Table:
    """Size, quality and speed of every model, one row each."""
    base = results.base
    perplexity = _perplexity(lambda held: held.perplexity)
    accuracy = _zero_shot(lambda held: held.mean.acc)

    def before(model: Model) -> float | None:
        parent = results.parent_of(model)
        return perplexity(parent) if parent else None

    def recovered(model: Model) -> float | None:
        """Share of the perplexity lost by pruning that healing won back."""
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
    prefill, decode = _timing(1, _prefill_ms), _timing(1, _decode_ms)
    prefill_share, decode_share = _time_share(_usual_prefill, base), _time_share(_usual_decode, base)
    columns = [
        Column("variant", "Variant", TEXT, lambda model: model.name, compact=True),
        Column("method", "Method", TEXT, _pruning(lambda held: held.method)),
        Column("mechanism", "Mechanism", TEXT, _pruning(lambda held: held.mechanism), raw=True),
        Column("structure", "Structure", TEXT, _pruning(lambda held: held.structure)),
        Column("asked", "Asked", TEXT, _pruning(lambda held: held.amount_text("asked")), compact=True),
        Column("reached", "Reached", TEXT, _pruning(lambda held: held.amount_text("reached"))),
        Column("asked_amount", "Asked amount", FOUR, _amount(lambda held: held.asked), raw=True),
        Column("reached_amount", "Reached amount", FOUR, _amount(lambda held: held.reached), raw=True),
        Column("amount_of", "Amount of", TEXT, _pruning(lambda held: held.reached and held.reached.of), raw=True),
        Column(
            "parameters",
            "Parameters",
            COUNT,
            _comparison(lambda held: held.totals.parameters.after),
            compact=True,
        ),
        Column(
            "parameter_reduction",
            "Parameters removed",
            SHARE,
            _comparison(lambda held: held.totals.parameters.reduction_ratio),
            compact=True,
        ),
        Column("nonzero", "Non-zero", COUNT, _comparison(lambda held: held.totals.nonzero.after), compact=True),
        Column("bytes_on_disk", "On disk", BYTES, size_on_disk),
        Column("layers", "Layers", COUNT, _comparison(lambda held: held.num_layers.after)),
        Column("perplexity", "Perplexity", TWO, perplexity, compact=True),
        *(healing if any(model.parent for model in results.models) else ()),
        Column("nll_difference", f"nll − {base.name}", THREE, lambda model: paired(model, base)[0], compact=True),
        Column("nll_difference_stderr", "± s.e.", THREE, lambda model: paired(model, base)[1], compact=True),
        *(
            [Column("seed_spread", "± seeds", THREE, lambda model: spread(results, model), compact=True)]
            if results.repeats
            else []
        ),
        Column("ties", "Tie with", TEXT, lambda model: ties[model.name], compact=any(ties.values())),
        Column("kl", f"KL to {base.name}", THREE, _divergence(lambda held: held.mean_kl), compact=True),
        Column("kl_stderr", "± s.e.", THREE, _divergence(lambda held: held.mean_kl_stderr)),
        Column("kl_median", "KL median", THREE, _divergence(lambda held: held.median_kl)),
        Column("kl_p99", "KL 99th percentile", THREE, _divergence(lambda held: held.p99_kl)),
        Column("same_top", "Same next token", SHARE, _divergence(lambda held: held.same_top), compact=True),
        Column("same_top_stderr", "± s.e.", SHARE, _divergence(lambda held: held.same_top_stderr)),
        Column("perplexity_ratio", f"Perplexity / {base.name}", TIMES, _relative(perplexity, base)),
        Column("bits_per_byte", "Bits per byte", THREE, _perplexity(lambda held: held.bits_per_byte)),
        Column("zero_shot_acc", "Zero-shot acc", SHARE, accuracy, compact=True),
        Column("zero_shot_stderr", "± s.e.", SHARE, _zero_shot(lambda held: held.mean.acc_stderr), compact=True),
        Column("zero_shot_acc_norm", "Zero-shot acc_norm", SHARE, _zero_shot(lambda held: held.mean.acc_norm)),
        Column("zero_shot_retention", "Accuracy kept", SHARE, _relative(accuracy, base), compact=True),
        *(Column(f"acc_{task}", f"{task} acc", SHARE, _task(task, lambda held: held.acc)) for task in results.tasks),
        Column("prefill_ms", "Prefill ms", ONE, prefill),
        Column("prefill_speedup", "Prefill speed-up", TIMES, _inverse(prefill_share)),
        Column("decode_ms", "Decode ms per token", TWO, decode, compact=True),
        Column("decode_speedup", "Decode speed-up", TIMES, _inverse(decode_share), compact=True),
        Column("decode_time_share", f"Decode time / {base.name}", TIMES, decode_share),
        *(
            Column(
                f"throughput_{size}",
                f"Tokens/s at batch {size}",
                ONE,
                _timing(size, lambda times: times.decode_tokens_per_second),
                compact=size == max(results.batch_sizes),
            )
            for size in results.batch_sizes
        ),
        Column("peak_memory_bytes", "Peak memory", BYTES, _efficiency(lambda held: held.peak_memory_bytes)),
        Column("load_seconds", "Load s", TWO, _efficiency(lambda held: held.load_seconds)),
        Column("pruning_seconds", "Pruning s", ONE, _pruning(lambda held: held.seconds.total)),
    ]
    note = (
        "Sparse models keep their shapes: nothing is removed, and Non-zero shows their zeros. "
        f"nll − {base.name} is the difference of the losses in nats a token, with the standard error over the windows "
        f"that both models saw. Tie with names {base.name} and the pruned row of lowest perplexity if the difference "
        f"is below {TELLING_ERRORS} such errors: the order of tied rows is chance. "
        f"KL to {base.name} is the divergence of the predictions on the same text, in nats a token; Same next "
        "token is the share of tokens for which both models have the same likeliest next token. "
        f"Accuracy kept and speed-up are relative to {base.name}, which was timed in turn with each model: speed-ups "
        "compare, milliseconds of different rows were measured at different moments. "
        "Recovered is the share of the perplexity lost by pruning that healing won back. "
        "An empty cell was not measured."
    )
    return build_table("Summary", columns, results.models, note)


def layers_table(results: Results) -> Table:
    """Reduction by layer: one row for each block and model, one column for each layer of the base."""
    layers = max((len(model.layers) for model in results.models), default=0)

    def reduction(layer: int) -> Callable[[tuple[str, Model]], float | None]:
        def value(record: tuple[str, Model]) -> float | None:
            block, model = record
            held = next((one for one in model.layers if one.layer_idx == layer), None)
            return _BLOCKS[block](held).nonzero_reduction_ratio if held else None

        return value

    columns = [
        Column("block", "Block", TEXT, lambda record: record[0]),
        Column("variant", "Variant", TEXT, lambda record: record[1].name),
        Column("structure", "Structure", TEXT, lambda record: record[1].pruning and record[1].pruning.structure),
        *(Column(f"layer_{layer}", f"{layer}", WHOLE, reduction(layer)) for layer in range(layers)),
    ]
    records = [(block, model) for block in _BLOCKS for model in results.models]
    note = "Share of each block's non-zero parameters that were removed or zeroed, by the base's layer number."
    return build_table("Layers", columns, records, note)


_Value = Callable[[Model], float | None]


def seeds_table(results: Results) -> Table | None:
    """Mean and spread of each row over draws of calibration samples; None for a single draw."""

    def over_draws(
        value: Callable[[Model], float | None], fold: Callable[[list[float]], float]
    ) -> Callable[[Model], float | None]:
        def folded(model: Model) -> float | None:
            found = [number for draw in results.draws_of(model) if (number := value(draw)) is not None]
            return fold(found) if len(found) > 1 else None

        return folded

    repeated = [model for model in results.models if len(results.draws_of(model)) > 1]
    if not repeated:
        return None
    measures: tuple[tuple[str, str, Format, _Value], ...] = (
        ("nll", "nll", THREE, _perplexity(lambda held: held.nll)),
        ("kl", f"KL to {results.base.name}", THREE, _divergence(lambda held: held.mean_kl)),
        ("zero_shot_acc", "Zero-shot acc", SHARE, _zero_shot(lambda held: held.mean.acc)),
    )
    perplexity = _perplexity(lambda held: held.perplexity)
    columns = [
        Column("variant", "Variant", TEXT, lambda model: model.name),
        Column("draws", "Draws", COUNT, lambda model: len(results.draws_of(model))),
        Column("perplexity_lowest", "Perplexity, lowest", TWO, over_draws(perplexity, min)),
        Column("perplexity_mean", "mean", TWO, over_draws(perplexity, statistics.fmean)),
        Column("perplexity_highest", "highest", TWO, over_draws(perplexity, max)),
    ]
    for key, title, shown, value in measures:
        columns.append(Column(f"{key}_mean", f"{title}, mean", shown, over_draws(value, statistics.fmean)))
        columns.append(Column(f"{key}_sd", "± s.d.", shown, over_draws(value, statistics.stdev)))
    note = (
        "Each row is repeated with other calibration samples. Differences between draws are chance, and a difference "
        "of this size between two rows does not compare their methods. ± s.d. is the standard deviation between draws."
    )
    return build_table("Seeds", columns, repeated, note)


def zero_shot_table(results: Results) -> Table:
    """Accuracy, normalised accuracy and perplexity of every task with their standard errors."""
    columns = [
        Column("variant", "Variant", TEXT, lambda model: model.name),
        Column("mean_acc", "Mean acc", SHARE, _zero_shot(lambda held: held.mean.acc)),
        Column("mean_acc_norm", "Mean acc_norm", SHARE, _zero_shot(lambda held: held.mean.acc_norm)),
        Column("retention", "Accuracy kept", SHARE, _relative(_zero_shot(lambda held: held.mean.acc), results.base)),
    ]
    for task in results.tasks:
        for metric, shown in (("acc", SHARE), ("acc_norm", SHARE), ("perplexity", TWO)):
            value, error = (_task(task, attrgetter(key)) for key in (metric, f"{metric}_stderr"))
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
            Column(f"{key}_{size}", f"{title}, batch {size}", shown, _timing(size, value))
            for size in results.batch_sizes
            for key, title, shown, value in _TIMES
        ),
        Column("peak_memory_bytes", "Peak memory", BYTES, _efficiency(lambda held: held.peak_memory_bytes)),
        Column("load_seconds", "Load s", TWO, _efficiency(lambda held: held.load_seconds)),
        Column("bytes_on_disk", "On disk", BYTES, _efficiency(lambda held: held.bytes_on_disk)),
        Column("prompt_length", "Prompt tokens", COUNT, _efficiency(lambda held: held.prompt_length)),
        Column("new_tokens", "New tokens", COUNT, _efficiency(lambda held: held.new_tokens)),
        Column("device", "Device", TEXT, _efficiency(lambda held: held.device)),
        Column("threads", "Threads", COUNT, _efficiency(lambda held: held.threads)),
    ]
    note = "Prefill is the time to the first token of a prompt, decode the time of each further token."
    return build_table("Efficiency", columns, results.models, note)


def provenance_table(results: Results) -> Table:
    """Origin of every number: time, place, duration, data, options, seed and versions."""
    packages = _union(run.versions for model in results.models for run in model.runs())
    columns = [
        Column("variant", "Variant", TEXT, lambda model: model.name),
        Column("parent", "Parent", TEXT, _pruning(lambda held: held.parent)),
        Column("started", "Started", TEXT, lambda model: min((run.started for run in model.runs()), default=None)),
        Column("scoring_seconds", "Scoring s", ONE, _pruning(lambda held: held.seconds.scoring)),
        Column("pruning_seconds", "Pruning s", ONE, _pruning(lambda held: held.seconds.pruning)),
        Column("perplexity_seconds", "Perplexity s", ONE, _perplexity(lambda held: held.run.seconds)),
        Column("zero_shot_seconds", "Zero-shot s", ONE, _zero_shot(lambda held: held.run.seconds)),
        Column("efficiency_seconds", "Efficiency s", ONE, _efficiency(lambda held: held.run.seconds)),
        Column("seed", "Seed", TEXT, partial(_distinct, value=lambda run: run.seed)),
        Column("device", "Device", TEXT, partial(_distinct, value=lambda run: run.device)),
        Column("cores", "Cores", TEXT, partial(_distinct, value=lambda run: run.machine.cores)),
        Column("system", "System", TEXT, partial(_distinct, value=lambda run: run.machine.system)),
        Column("dataset", "Perplexity data", TEXT, _perplexity(lambda held: held.dataset)),
        Column("split", "Split", TEXT, _perplexity(lambda held: held.split)),
        Column("window", "Window", COUNT, _perplexity(lambda held: held.window)),
        Column("stride", "Stride", COUNT, _perplexity(lambda held: held.stride)),
        Column("tokens", "Tokens", COUNT, _perplexity(lambda held: held.tokens)),
        Column("tasks", "Zero-shot tasks", TEXT, _zero_shot(_tasks_text)),
        Column("scores", "Scores", TEXT, _pruning(lambda held: ", ".join(held.scores) or None)),
        Column("options", "Options", TEXT, _pruning(_options_text)),
        Column("notes", "Notes", TEXT, _pruning(lambda held: " ".join(held.notes) or None)),
        *(
            Column(f"version_{package}", package, TEXT, partial(_distinct, value=partial(_version, package=package)))
            for package in packages
        ),
    ]
    note = "If the jobs of one model differ, all values are listed."
    return build_table("Provenance", columns, results.models, note)


def _distinct(model: Model, value: Callable[[RunRecord], Any]) -> str | None:
    """Distinct values in the provenance of a model's jobs."""
    found = dict.fromkeys(map(value, model.runs()))
    return " / ".join(str(held) for held in found if held is not None) or None


def _version(run: RunRecord, package: str) -> str | None:
    return run.versions.get(package)


def _tasks_text(measured: ZeroShotResult) -> str | None:
    tasks = measured.tasks.items()
    return ", ".join(f"{name} ({task.items} items, {task.num_fewshot}-shot)" for name, task in tasks) or None


def _options_text(pruning: PruningRecord) -> str | None:
    return ", ".join(f"{key}={json.dumps(value)}" for key, value in pruning.options.items()) or None


# --- plain files -------------------------------------------------------------------------------------------


def write_csv(table: Table, path: str | os.PathLike[str]) -> None:
    """Write every column under its key: numbers unrounded, shares between 0 and 1, empty if not measured.

    Text that a spreadsheet would take for a formula has an apostrophe in front; ``from_csv_cell`` removes it.
    """
    frame = table.frame.copy()
    for column in table.columns:
        if column.format is TEXT:
            frame[column.key] = frame[column.key].map(csv_cell, na_action="ignore")
    frame = frame.rename(columns=csv_cell)
    with staged_file(path) as staged:
        frame.to_csv(staged, index=False, lineterminator="\n")


def markdown(table: Table) -> str:
    """The compact columns as a Markdown table for people."""
    columns = [column for column in table.columns if column.compact]
    rows = [
        [
            "" if pd.isna(value) else markdown_cell(column.format.text(value))
            for column, value in zip(columns, row, strict=True)
        ]
        for row in table.frame[[column.key for column in columns]].itertuples(index=False)
    ]
    alignment = ["left" if column.format is TEXT else "right" for column in columns]
    headings = [markdown_cell(column.title) for column in columns]
    return tabulate(rows, headings, "pipe", disable_numparse=True, colalign=alignment if rows else None) + "\n"


def write_markdown(table: Table, path: str | os.PathLike[str], more: Sequence[Table] = ()) -> None:
    """Write a table as Markdown, and ``more`` tables below it under their titles; an empty one is left out."""
    parts = [f"## {other.title}\n\n{markdown(other)}\n{other.note}\n" for other in more if len(other.frame)]
    write_text(path, "\n".join([markdown(table), *parts, ""]), comment="<!-- {} -->")

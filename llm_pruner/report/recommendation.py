"""The best model within limits of size, speed and likeness, its runner-up, and whether the two can be told apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llm_pruner.report.table import (
    BYTES,
    TEXT,
    THREE,
    TWO,
    WHOLE,
    Column,
    Model,
    Results,
    Table,
    best_first,
    build_table,
    paired,
    size_on_disk,
    summary_table,
    ties_of,
    told_apart,
)
from llm_pruner.system.errors import DataError

SHARES = (0.9, 0.8, 0.7, 0.6, 0.5)
"""Shares of the base's bytes on disk, at which a run names the best model."""
_TENTH_OF_A_PERCENT = 0.0005
"""What sizes in whole units may be above a share."""


@dataclass(frozen=True)
class Limit:
    """A bound on a column of the summary."""

    column: str
    """Key of the column."""
    bound: float
    at_least: bool = False
    """Whether larger values keep the limit; otherwise smaller ones do."""

    def kept(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True)
class Recommendation:
    """The model of lowest perplexity among those that keep all limits."""

    best: Model | None = None
    """None if no measured model keeps the limits."""
    runner_up: Model | None = None
    """The next one; None if no other model keeps the limits."""
    ties: tuple[str, ...] = ()
    """Models within the limits whose perplexity cannot be told apart from that of the best one."""

    @property
    def gap(self) -> tuple[float | None, float | None]:
        """The runner-up's loss minus the best model's, in nats a token, and its standard error over windows."""
        return paired(self.runner_up, self.best) if self.best and self.runner_up else (None, None)

    @property
    def apart(self) -> bool | None:
        """Whether the two differ by more than chance; None if that is unknown."""
        return told_apart(self.runner_up, self.best) if self.best and self.runner_up else None


@dataclass(frozen=True)
class Best:
    """What is recommended for a share of the base's size."""

    share: float
    """Of the base's bytes on disk."""
    limit: float
    """The size in bytes."""
    choice: Recommendation
    in_full_precision: Recommendation | None = None
    """If the best model is in few bits, what is recommended among those that are not."""

    @property
    def models(self) -> list[Model]:
        """The models that are named best, one or two."""
        choices = [self.choice, *([self.in_full_precision] if self.in_full_precision else [])]
        return [choice.best for choice in choices if choice.best]


def choose(models: Iterable[Model]) -> Recommendation:
    """The best of some models; models without perplexity do not count."""
    measured = [model for model in best_first(models) if model.perplexity]
    if not measured:
        return Recommendation()
    best = measured[0]
    return Recommendation(best, measured[1] if len(measured) > 1 else None, tuple(ties_of(best, measured)))


def recommend(results: Results, limits: Sequence[Limit]) -> Recommendation:
    """The best model of a run within limits.

    Raises:
        DataError: if a limit's column was not measured; if no model keeps all limits, with the nearest; or if none of
            those that do has a perplexity.
    """
    table = summary_table(results)
    columns = {column.key: column for column in table.columns}
    values = {limit.column: table.frame[limit.column].astype(float) for limit in limits}
    for limit in limits:
        if values[limit.column].isna().all():
            raise DataError(f"no row of this run has a value for {columns[limit.column].title}")
    fitting = [
        model
        for place, model in enumerate(results.models)
        if all(limit.kept(values[limit.column].iloc[place]) for limit in limits)
    ]
    if not fitting:
        raise DataError(_nothing_fits(results, limits, columns))
    chosen = choose(fitting)
    if chosen.best is None:
        raise DataError(f"no row within the limits has a perplexity: {', '.join(model.name for model in fitting)}")
    return chosen


def _nothing_fits(results: Results, limits: Sequence[Limit], columns: dict[str, Column]) -> str:
    """Every limit, with the row that comes nearest to it."""
    told = []
    for limit in limits:
        column = columns[limit.column]
        known = [(value, model) for model in results.models if (value := column.value(model)) is not None]
        value, nearest = (max if limit.at_least else min)(known, key=lambda pair: pair[0])
        sign = "≥" if limit.at_least else "≤"
        text = column.format.text
        told.append(f"{column.title} {sign} {text(limit.bound)} (nearest: {nearest.name}, {text(value)})")
    return f"no row keeps the limits {' and '.join(told)}"


def best_at_sizes(results: Results, shares: Sequence[float] = SHARES) -> list[Best]:
    """The best model at each share of the base's size, to a tenth of a percent; empty if that size is unknown."""
    whole = size_on_disk(results.base)
    if whole is None:
        return []
    found = []
    for share in shares:
        limit = (share + _TENTH_OF_A_PERCENT) * whole
        fitting = [model for model in results.models if (size_on_disk(model) or math.inf) <= limit]
        chosen = choose(fitting)
        others = (model for model in fitting if not model.is_quantized)
        in_few_bits = chosen.best is not None and chosen.best.is_quantized
        found.append(Best(share, share * whole, chosen, choose(others) if in_few_bits else None))
    return found


def recommendation_table(results: Results) -> Table:
    """The best model at each share of the base's size, one row each; a second row where the best is in few bits."""
    base = results.base
    rows = [
        (best, choice)
        for best in best_at_sizes(results)
        for choice in (best.choice, best.in_full_precision)
        if choice and (choice.best or choice is best.choice)
    ]

    def of_best(value: Callable[[Model], Any]) -> Callable[[_Row], Any]:
        return lambda row: value(row[1].best) if row[1].best else None

    def lost(model: Model) -> float | None:
        return paired(model, base)[0]

    columns = [
        Column("share", "At most", WHOLE, lambda row: row[0].share, compact=True),
        Column("limit", "Bytes", BYTES, lambda row: round(row[0].limit), compact=True),
        Column("best", "Best", TEXT, of_best(lambda model: model.name), compact=True),
        Column("bytes_on_disk", "On disk", BYTES, of_best(size_on_disk), compact=True),
        Column("perplexity", "Perplexity", TWO, of_best(_perplexity), compact=True),
        Column(
            "nll_difference", f"nll − {base.name}", THREE, of_best(lambda model: paired(model, base)[0]), compact=True
        ),
        Column("nll_difference_stderr", "± s.e.", THREE, of_best(lambda model: paired(model, base)[1]), compact=True),
        Column("runner_up", "Runner-up", TEXT, lambda row: row[1].runner_up and row[1].runner_up.name, compact=True),
        Column("gap", "nll more", THREE, lambda row: row[1].gap[0], compact=True),
        Column("gap_stderr", "± s.e.", THREE, lambda row: row[1].gap[1], compact=True),
        Column("apart", "Told apart", TEXT, lambda row: _YES_OR_NO[row[1].apart], compact=True),
    ]
    note = (
        f"The model of lowest perplexity within a share of {base.name}'s bytes on disk, and the next one. Where the "
        "best model is in few bits, a second row names the best one that is not. Two models are told apart if their "
        "losses differ by two standard errors or more."
    )
    return build_table("Best by size", columns, rows, note)


_Row = tuple[Best, Recommendation]
_YES_OR_NO = {True: "yes", False: "no", None: None}


def _perplexity(model: Model) -> float | None:
    return model.perplexity.perplexity if model.perplexity else None


def describe_choice(choice: Recommendation, results: Results) -> str:
    """A recommendation in a few lines, for people."""
    assert choice.best
    lines = [_describe(choice.best, results.base)]
    if choice.runner_up is None:
        return "\n".join([*lines, "no other row keeps these limits"])
    lines.append(f"runner-up: {_describe(choice.runner_up, results.base)}")
    difference, error = choice.gap
    if difference is None or error is None:
        return "\n".join([*lines, "whether the two can be told apart is unknown: their windows were not the same"])
    told = "they can be told apart" if choice.apart else "they cannot be told apart, so take the one that suits you"
    lines.append(f"the runner-up loses {difference:.3f} ± {error:.3f} nats a token more: {told}")
    return "\n".join(lines)


def _describe(model: Model, base: Model) -> str:
    facts = []
    size, perplexity, (loss, error) = size_on_disk(model), _perplexity(model), paired(model, base)
    if size is not None:
        facts.append(f"{BYTES.text(size)} on disk")
    if perplexity is not None:
        facts.append(f"perplexity {TWO.text(perplexity)}")
    if loss is not None and error is not None:
        facts.append(f"nll − {base.name} {loss:.3f} ± {error:.3f}")
    if model.perplexity and model.perplexity.divergence:
        facts.append(f"KL {model.perplexity.divergence.mean_kl:.3f}")
    return f"{model.name}: {', '.join(facts)}"

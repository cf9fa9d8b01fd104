"""Figure of a search for the attention : MLP split."""

from __future__ import annotations

from pathlib import Path

from llm_pruner.mechanisms.width.split import SplitSearch
from llm_pruner.report.canvas import BLUE, ORANGE, VERMILION, new_figure, plain, save

read = SplitSearch.read


def draw(record: SplitSearch, path: Path) -> None:
    """Draw held-out perplexity against attention's share of the budget, as a PNG."""
    trials = sorted((trial for trial in record.trials if trial.measured), key=lambda trial: trial.reached_share)
    best, even = record.best, record.trials[0]
    figure = new_figure(7, 4)
    axes = figure.subplots()
    axes.plot(
        [trial.reached_share for trial in trials],
        [trial.perplexity for trial in trials],
        "o-",
        color=BLUE,
        label="tried",
    )
    axes.plot(even.reached_share, even.perplexity, "s", color=ORANGE, markersize=10, label="both at one rate")
    axes.plot(best.reached_share, best.perplexity, "*", color=VERMILION, markersize=16, label="best")
    axes.set(
        xlabel="attention's share of the parameters removed (%)",
        ylabel="held-out perplexity",
        title=f"{record.variant}: {len(trials)} plans tried, {even.perplexity:.2f} at one rate, "
        f"{best.perplexity:.2f} at best",
    )
    plain(axes)
    axes.legend()
    save(figure, path)

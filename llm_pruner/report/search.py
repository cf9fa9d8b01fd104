"""Figure of a search for the attention : MLP split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_pruner.system.files import staged_file


def plot_split_search(result: Mapping[str, Any], path: Path) -> None:
    """Held-out perplexity against the share of the budget that attention gives, as a PNG.

    Args:
        result: what ``search_split`` returned.
        path: the PNG.
    """
    from matplotlib.figure import Figure

    trials = sorted(
        (trial for trial in result["trials"] if trial["measured"]), key=lambda trial: trial["reached_share"]
    )
    best, even = result["best"], result["trials"][0]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        [trial["reached_share"] for trial in trials],
        [trial["perplexity"] for trial in trials],
        "o-",
        color="#0072B2",
        label="tried",
    )
    axes.plot(even["reached_share"], even["perplexity"], "s", color="#E69F00", markersize=10, label="both at one rate")
    axes.plot(best["reached_share"], best["perplexity"], "*", color="#D55E00", markersize=16, label="best")
    axes.set(
        xlabel="attention's share of the parameters removed (%)",
        ylabel="held-out perplexity",
        title=f"{result['variant']}: {len(trials)} plans tried, {even['perplexity']:.2f} at one rate, "
        f"{best['perplexity']:.2f} at best",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    with staged_file(path) as staged:
        figure.savefig(staged, dpi=150)

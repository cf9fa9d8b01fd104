"""Figure of the classifiers: accuracy against size and latency."""

from __future__ import annotations

from pathlib import Path

from llm_pruner.encoders.records.report import FinalReport
from llm_pruner.report.canvas import new_figure, plain, save
from llm_pruner.report.style import method_styles

read = FinalReport.read


def draw(record: FinalReport, path: Path) -> None:
    """Draw test accuracy against size on disk and latency as a PNG. Bars are standard deviations over seeds."""
    names = record.names
    styles = method_styles(entry.name for entry in names)
    figure = new_figure(11, 5)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, key, scale, label in (
        (panels[0], "bytes_on_disk", 1e6, "size on disk (MB)"),
        (panels[1], "latency_ms", 1, "latency of one example (ms)"),
    ):
        for entry in names:
            spread, style = entry.spread, styles[entry.name]
            across = getattr(spread, key)
            axes.errorbar(
                getattr(entry.mean, key) / scale,
                100 * entry.mean.accuracy,
                xerr=None if across is None else across / scale,
                yerr=None if spread.accuracy is None else 100 * spread.accuracy,
                fmt=style.marker,
                color=style.colour,
                markersize=9,
                capsize=3,
                label=f"{entry.name} ({entry.kind})" if entry.name != entry.kind else entry.name,
            )
        axes.set(xlabel=label)
        plain(axes)
    panels[0].set(ylabel="test accuracy (%)")
    seeds = ": mean over seeds, bars of one standard deviation" if any(len(entry.seeds) > 1 for entry in names) else ""
    task = record.task
    figure.suptitle(
        f"Classifiers on {task.name}{seeds}\n"
        f"{task.test_examples} test examples: one accuracy has a standard error of up to "
        f"{100 * record.standard_error:.1f} points"
    )
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    save(figure, path)

"""Figure of the divergence of each model's predictions from the base's."""

from __future__ import annotations

import os

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from llm_pruner.report.canvas import FAINT, GRID, QUIET, new_figure, save
from llm_pruner.report.style import UNKNOWN, run_styles
from llm_pruner.report.table import Results, summary_table

_ROWS = 60
"""Models in the figure at most."""


def draw(results: Results, path: str | os.PathLike[str]) -> None:
    """Draw mean divergence with its standard error, and the range from median to 99th percentile, the closest on top.

    Models with exactly the base's predictions, the base included, are left out, since the axis is logarithmic. Of very
    many models, the closest are drawn.
    """
    styles = run_styles(results)
    sparse = {model.name for model in results.models if model.is_sparse}
    frame = summary_table(results).frame
    shown = frame[(frame["kl"] > 0).fillna(False)].fillna({"method": UNKNOWN, "kl_stderr": 0.0})
    rows = shown.sort_values("kl").head(_ROWS).to_dict("records")
    figure = new_figure(8.5, 1.4 + 0.32 * max(len(rows), 4))
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        style = styles[row["method"]]
        axes.hlines(place, row["kl_median"], row["kl_p99"], color=FAINT, linewidth=5, zorder=1)
        axes.errorbar(
            row["kl"],
            place,
            xerr=row["kl_stderr"],
            color=style.colour,
            marker=style.marker,
            markersize=8,
            markerfacecolor="white" if row["variant"] in sparse else style.colour,
            markeredgewidth=1.6,
            capsize=2.5,
            zorder=3,
        )
        axes.annotate(
            f"{row['same_top']:.0%}",
            (1.02, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
            color=QUIET,
        )
    axes.set_yticks(range(len(rows)), [row["variant"] for row in rows])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(
        f"KL divergence from {results.base.name} in nats a token: mean ± s.e., bar from median to 99th percentile"
    )
    axes.set_title("same next token", loc="right", fontsize=9, color=QUIET)
    if len(rows) < len(shown):
        axes.set_title(f"the {len(rows)} closest of {len(shown)} models", loc="left", fontsize=9, color=QUIET)
    axes.grid(axis="x", **GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)

"""Summarise the structures of all models of a run, from their analyses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

from tabulate import tabulate

from llm_pruner.analysis.comparison import COMPARISON_FILE
from llm_pruner.analysis.records import (
    LayerReduction,
    ModelComparison,
    ModelParameters,
    ModelSummary,
    Reduction,
    Statistics,
    StructureSummary,
)
from llm_pruner.system.files import write_text
from llm_pruner.system.text import printable

SUMMARY_FILE = "models_structure_summary"


def summarize_structures(model_dirs: Sequence[str | os.PathLike[str]]) -> StructureSummary:
    """Sizes and per-layer reductions of every model, from ``<model_dir>/analysis/model_comparison.json``.

    A model without an analysis is named under ``missing`` and counts nowhere.
    ``reduction_ratio`` is structural, ``nonzero_reduction_ratio`` also counts zeroed parameters (see
    ``comparison.compare``). Both are shares between 0 and 1.

    Raises:
        DataError: for a damaged analysis, or a file that is no analysis, naming the file.
    """
    folders = [Path(folder) for folder in model_dirs]
    files = {folder.name: folder / "analysis" / COMPARISON_FILE for folder in folders}
    models = [_summarize(name, ModelComparison.read(file)) for name, file in files.items() if file.exists()]
    return StructureSummary(
        timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
        total_models=len(models),
        missing=tuple(name for name, file in files.items() if not file.exists()),
        statistics=_statistics(models),
        models=tuple(models),
    )


def describe_structures(summary: StructureSummary) -> str:
    """The summary as an aligned table of text, with minimum, maximum and mean below."""
    headers = ["model", "parameters", "reduction in %", "non-zero", "layers", "fully pruned layers"]
    rows = [
        [
            printable(model.name),
            f"{model.params.total:,}",
            f"{100 * model.pruning.reduction_ratio:.2f}",
            f"{model.params.nonzero:,}",
            str(model.params.num_layers),
            str(sum(layer.is_zero for layer in model.layer_pruning)),
        ]
        for model in summary.models
    ]
    footer = [
        [
            name,
            f"{values.params_total:,.0f}",
            f"{100 * values.reduction_ratio:.2f}",
            f"{values.params_nonzero:,.0f}",
            *("", ""),
        ]
        for name, values in summary.statistics.items()
    ]
    table = tabulate(
        [*rows, *footer], headers, "simple", disable_numparse=True, colalign=("left",) + ("right",) * 5
    ).splitlines()
    body_end = 2 + len(rows)
    lines = [f"{summary.total_models} models, {summary.timestamp}", "", *table[:body_end]]
    if footer:
        lines += [table[1], *table[body_end:]]
    if summary.missing:
        lines += ["", f"not analysed yet: {printable(', '.join(summary.missing))}"]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def write_summary(model_dirs: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]) -> StructureSummary:
    """Write ``models_structure_summary.json`` and ``.txt`` into ``output`` and return the summary."""
    summary = summarize_structures(model_dirs)
    summary.write(Path(output) / f"{SUMMARY_FILE}.json")
    write_text(Path(output) / f"{SUMMARY_FILE}.txt", describe_structures(summary), comment="{}")
    return summary


def _summarize(name: str, comparison: ModelComparison) -> ModelSummary:
    totals = comparison.totals
    return ModelSummary(
        name=name,
        params=ModelParameters(
            total=totals.parameters.after,
            before=totals.parameters.before,
            nonzero=totals.nonzero.after,
            num_layers=comparison.num_layers.after,
        ),
        pruning=Reduction(
            reduction_ratio=totals.parameters.reduction_ratio, nonzero_reduction_ratio=totals.nonzero.reduction_ratio
        ),
        layer_pruning=tuple(
            LayerReduction(
                layer_idx=layer.layer_idx,
                reduction_ratio=layer.reduction_ratio,
                nonzero_reduction_ratio=layer.nonzero_reduction_ratio,
                is_zero=layer.is_zero_layer,
            )
            for layer in comparison.layers
        ),
    )


def _statistics(models: Sequence[ModelSummary]) -> dict[str, Statistics]:
    """Minimum, maximum and mean over all models, the base included; empty without models."""
    if not models:
        return {}
    measures: dict[str, Callable[[Iterable[float]], float]] = {"minimum": min, "maximum": max, "mean": fmean}
    return {
        name: Statistics(
            params_total=measure(model.params.total for model in models),
            params_nonzero=measure(model.params.nonzero for model in models),
            reduction_ratio=measure(model.pruning.reduction_ratio for model in models),
        )
        for name, measure in measures.items()
    }

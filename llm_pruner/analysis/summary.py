"""All models of a run in one structural summary, from the analyses that are there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from tabulate import tabulate

from llm_pruner.analysis.comparison import COMPARISON_FILE
from llm_pruner.system.errors import DataError
from llm_pruner.system.files import read_json, write_json, write_text

SUMMARY_FILE = "models_structure_summary"


def summarize_structures(model_dirs: Sequence[str | os.PathLike[str]]) -> dict[str, Any]:
    """Sizes and per-layer reductions of every model, from ``<model_dir>/analysis/model_comparison.json``.

    A model that has no analysis yet is named under ``missing`` and counts nowhere.
    ``reduction_ratio`` is structural, ``nonzero_reduction_ratio`` also counts zeroed parameters (see
    ``comparison.compare``). Both are shares between 0 and 1.

    Raises:
        DataError: for a damaged analysis, or a file that is none, naming it.
    """
    folders = [Path(folder) for folder in model_dirs]
    files = {folder.name: folder / "analysis" / COMPARISON_FILE for folder in folders}
    models = [_read(name, file) for name, file in files.items() if file.exists()]
    return {
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "total_models": len(models),
        "missing": [name for name, file in files.items() if not file.exists()],
        "statistics": _statistics(models),
        "models": models,
    }


def describe_structures(summary: Mapping[str, Any]) -> str:
    """The summary as an aligned table of text, with minimum, maximum and mean below."""
    headers = ["model", "parameters", "reduction in %", "non-zero", "layers", "fully pruned layers"]
    rows = [
        [
            model["name"],
            f"{model['params']['total']:,}",
            f"{100 * model['pruning']['reduction_ratio']:.2f}",
            f"{model['params']['nonzero']:,}",
            str(model["params"]["num_layers"]),
            str(sum(layer["is_zero"] for layer in model["layer_pruning"])),
        ]
        for model in summary["models"]
    ]
    footer = [
        [
            name,
            f"{values['params_total']:,.0f}",
            f"{100 * values['reduction_ratio']:.2f}",
            f"{values['params_nonzero']:,.0f}",
            *("", ""),
        ]
        for name, values in summary["statistics"].items()
    ]
    table = tabulate(
        [*rows, *footer], headers, "simple", disable_numparse=True, colalign=("left",) + ("right",) * 5
    ).splitlines()
    body_end = 2 + len(rows)
    lines = [f"{summary['total_models']} models, {summary['timestamp']}", "", *table[:body_end]]
    if footer:
        lines += [table[1], *table[body_end:]]
    if summary["missing"]:
        lines += ["", f"not analysed yet: {', '.join(summary['missing'])}"]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def write_summary(model_dirs: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]) -> dict[str, Any]:
    """Write ``models_structure_summary.json`` and ``.txt`` into ``output`` and return the summary."""
    summary = summarize_structures(model_dirs)
    write_json(Path(output) / f"{SUMMARY_FILE}.json", summary)
    write_text(Path(output) / f"{SUMMARY_FILE}.txt", describe_structures(summary))
    return summary


def _read(name: str, file: Path) -> dict[str, Any]:
    comparison = read_json(file)
    try:
        return _summarize(name, comparison)
    except (KeyError, TypeError) as error:
        raise DataError(f"{file}: not the analysis of a model ({error!r})") from None


def _summarize(name: str, comparison: Mapping[str, Any]) -> dict[str, Any]:
    totals = comparison["totals"]
    return {
        "name": name,
        "params": {
            "total": totals["parameters"]["after"],
            "before": totals["parameters"]["before"],
            "nonzero": totals["nonzero"]["after"],
            "num_layers": comparison["num_layers"]["after"],
        },
        "pruning": {
            "reduction_ratio": totals["parameters"]["reduction_ratio"],
            "nonzero_reduction_ratio": totals["nonzero"]["reduction_ratio"],
        },
        "layer_pruning": [
            {
                "layer_idx": layer["layer_idx"],
                "reduction_ratio": layer["reduction_ratio"],
                "nonzero_reduction_ratio": layer["nonzero_reduction_ratio"],
                "is_zero": layer["is_zero_layer"],
            }
            for layer in comparison["layers"]
        ],
    }


def _statistics(models: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Minimum, maximum and mean over all models, the base among them; empty without models."""
    if not models:
        return {}
    columns = {
        "params_total": [model["params"]["total"] for model in models],
        "params_nonzero": [model["params"]["nonzero"] for model in models],
        "reduction_ratio": [model["pruning"]["reduction_ratio"] for model in models],
    }
    return {
        "minimum": {key: min(values) for key, values in columns.items()},
        "maximum": {key: max(values) for key, values in columns.items()},
        "mean": {key: fmean(values) for key, values in columns.items()},
    }

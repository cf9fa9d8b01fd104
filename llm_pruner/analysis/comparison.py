"""A pruned model beside its base: what went, layer by layer, and the files that say so."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from llm_pruner.analysis.structure import analyze_model, empty_layer, list_tensors, sparsity
from llm_pruner.planning.plan import Plan
from llm_pruner.system.files import write_json, write_text

STRUCTURE_FILE = "model_structure.json"
COMPARISON_FILE = "model_comparison.json"
ORIGINAL_FILE = "original_model_analysis.json"
PRUNED_FILE = "pruned_model_analysis.json"
LAYERS_FILE = "pruning_summary_by_layer.txt"
ANALYSIS_FILES = (STRUCTURE_FILE, ORIGINAL_FILE, PRUNED_FILE, COMPARISON_FILE, LAYERS_FILE)

_LEGEND = "removed: share of the parameters that are no longer stored; zeros: share of those stored that are zero."


def reduction_ratio(before: int, after: int) -> float:
    """Share of ``before`` that is gone; 0 where there was nothing, below 0 where something was added."""
    return (before - after) / before if before else 0.0


def compare(base: Mapping[str, Any], pruned: Mapping[str, Any]) -> dict[str, Any]:
    """Two results of ``analyze_model`` side by side.

    Two ratios answer two questions, and neither stands in for the other:

    - ``reduction_ratio`` is structural: the share of parameters that are no longer stored. It is what makes a
      model smaller and faster without special kernels, and it is 0 for a sparse model, whose shapes stay.
    - ``nonzero_reduction_ratio`` is the share of non-zero parameters that were removed or zeroed: the measure
      that structured and sparse models have in common.

    ``is_zero_layer`` is true where a layer cannot change its input any more: it is gone, or its attention and
    MLP hold nothing but zeros.

    Returns:
        ``totals`` (``parameters``, ``nonzero`` and ``bytes_on_disk``, each with its own ``reduction_ratio``),
        ``parts`` (embedding, attention ...) and ``layers``, one record per layer of the base. Every quantity
        is a pair ``{"before": ..., "after": ...}``.
    """
    before, after = base["totals"], pruned["totals"]
    kept = {layer["layer_idx"]: layer for layer in pruned["layers"]}
    return {
        "base": base["name"],
        "model": pruned["name"],
        "num_layers": _pair(base["num_layers"], pruned["num_layers"]),
        "totals": {
            **{key: _quantity(before[key], after[key]) for key in ("parameters", "nonzero", "bytes_on_disk")},
            "sparsity": _pair(before["sparsity"], after["sparsity"]),
        },
        "parts": {part: _compare_block(held, after["parts"][part]) for part, held in before["parts"].items()},
        "layers": [_compare_layer(layer, kept.get(layer["layer_idx"])) for layer in base["layers"]],
    }


def describe_layers(comparison: Mapping[str, Any]) -> str:
    """The comparison as an aligned table of text, one line per layer of the base and one of totals."""
    totals = comparison["totals"]
    lines = [
        f"{comparison['model']} compared with {comparison['base']}",
        f"{_step(comparison['num_layers'])} layers, {_step(totals['parameters'])} parameters "
        f"({_percent(totals['parameters']['reduction_ratio'])} removed), {_step(totals['nonzero'])} non-zero",
        "",
    ]
    attention, mlp = comparison["parts"]["attention"], comparison["parts"]["mlp"]
    sliced = any(sum(layer["shortcut"].values()) for layer in comparison["layers"])
    headers = [
        "layer",
        *("attention", "removed", "heads", "groups"),
        *("MLP", "removed", "channels"),
        *(("shortcuts",) if sliced else ()),
        *("layer total", "removed", "zeros", ""),
    ]
    rows = [_layer_row(layer, sliced) for layer in comparison["layers"]]
    total = [
        "all",
        *(_step(attention["parameters"]), _percent(attention["reduction_ratio"]), "", ""),
        *(_step(mlp["parameters"]), _percent(mlp["reduction_ratio"]), ""),
        *((_step(comparison["parts"]["shortcut"]["parameters"]),) if sliced else ()),
        *_sum_of_layers(comparison["layers"]),
        "",
    ]
    alignment = ["right"] * (len(headers) - 1) + ["left"]
    table = tabulate([*rows, total], headers, "simple", disable_numparse=True, colalign=alignment)
    *body, last = table.splitlines()
    rule = body[1]
    lines += [*body, rule, last, "", _LEGEND]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def write_analysis(
    base_folder: str | os.PathLike[str],
    model_folder: str | os.PathLike[str],
    plan_path: str | os.PathLike[str] | None,
    output: str | os.PathLike[str],
    name: str,
    *,
    base_name: str = "Dense",
    original: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Analyse a model, compare it with its base and write the five analysis files into ``output``.

    Args:
        plan_path: the plan.json that the model was pruned by, or None where all layers are kept.
        name: what to call the pruned model; ``base_name`` is what to call its base.
        original: the base's analysis if it is there already (``original_model_analysis.json`` of any variant,
            or ``pruned_model_analysis.json`` of the base itself), so that its zeros are counted only once.

    Returns:
        The comparison.

    Raises:
        CheckpointError, PlanError, DataError: naming the file at fault.
    """
    output = Path(output)
    plan = None if plan_path is None else Plan.read(plan_path)
    before = analyze_model(base_folder, base_name) if original is None else original
    after = analyze_model(model_folder, name, plan)
    comparison = compare(before, after)
    write_json(output / STRUCTURE_FILE, {"name": name, "tensors": list_tensors(model_folder, plan)})
    write_json(output / ORIGINAL_FILE, before)
    write_json(output / PRUNED_FILE, after)
    write_json(output / COMPARISON_FILE, comparison)
    write_text(output / LAYERS_FILE, describe_layers(comparison))
    return comparison


def _pair(before: Any, after: Any) -> dict[str, Any]:
    return {"before": before, "after": after}


def _quantity(before: int, after: int) -> dict[str, Any]:
    return {**_pair(before, after), "reduction_ratio": reduction_ratio(before, after)}


def _compare_block(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "parameters": _pair(before["parameters"], after["parameters"]),
        "nonzero": _pair(before["nonzero"], after["nonzero"]),
        "sparsity": _pair(
            sparsity(before["parameters"], before["nonzero"]), sparsity(after["parameters"], after["nonzero"])
        ),
        "reduction_ratio": reduction_ratio(before["parameters"], after["parameters"]),
        "nonzero_reduction_ratio": reduction_ratio(before["nonzero"], after["nonzero"]),
    }


def _compare_layer(before: Mapping[str, Any], kept: Mapping[str, Any] | None) -> dict[str, Any]:
    after = kept or empty_layer(before["layer_idx"], before["attention"]["head_dim"])
    blocks = {
        part: {
            **_compare_block(before[part], after[part]),
            **{width: _pair(before[part][width], after[part][width]) for width in widths},
        }
        for part, widths in (("attention", ("heads", "key_value_groups")), ("mlp", ("channels",)))
    }
    return {
        "layer_idx": before["layer_idx"],
        "position": after["position"],
        "is_zero_layer": after["attention"]["nonzero"] + after["mlp"]["nonzero"] == 0,
        **_compare_block(before, after),
        **blocks,
        "shortcut": _pair(*(layer.get("shortcut", {}).get("parameters", 0) for layer in (before, after))),
    }


def _layer_row(layer: Mapping[str, Any], sliced: bool) -> list[str]:
    attention, mlp = layer["attention"], layer["mlp"]
    note = "" if not layer["is_zero_layer"] else "gone" if layer["position"] is None else "all zero"
    return [
        str(layer["layer_idx"]),
        *(_step(attention["parameters"]), _percent(attention["reduction_ratio"])),
        *(_step(attention["heads"]), _step(attention["key_value_groups"])),
        *(_step(mlp["parameters"]), _percent(mlp["reduction_ratio"]), _step(mlp["channels"])),
        *((_step(layer["shortcut"]),) if sliced else ()),
        *(_step(layer["parameters"]), _percent(layer["reduction_ratio"])),
        "" if layer["position"] is None else _percent(layer["sparsity"]["after"]),
        note,
    ]


def _sum_of_layers(layers: list[dict[str, Any]]) -> tuple[str, str, str]:
    """Parameters, reduction and zeros of all blocks together."""
    before = sum(layer["parameters"]["before"] for layer in layers)
    after = sum(layer["parameters"]["after"] for layer in layers)
    nonzero = sum(layer["nonzero"]["after"] for layer in layers)
    removed, zeros = reduction_ratio(before, after), sparsity(after, nonzero)
    return _step(_pair(before, after)), _percent(removed), _percent(zeros)


def _step(pair: Mapping[str, Any]) -> str:
    """``1,024 → 768``, or one number where nothing changed."""
    before, after = pair["before"], pair["after"]
    return f"{before:,}" if before == after else f"{before:,} → {after:,}"


def _percent(share: float) -> str:
    return f"{share:.2%}".replace("%", " %")

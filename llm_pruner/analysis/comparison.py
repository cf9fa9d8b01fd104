"""Compare a pruned model with its base, layer by layer, and write the comparison as files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from tabulate import tabulate

from llm_pruner.analysis.records import (
    AttentionComparison,
    BlockComparison,
    LayerComparison,
    LayerStructure,
    MLPComparison,
    ModelComparison,
    ModelStructure,
    Quantity,
    Sizes,
    TensorList,
    TotalsComparison,
)
from llm_pruner.analysis.structure import analyze_model, empty_layer, list_tensors, sparsity
from llm_pruner.models.architecture import read_architecture
from llm_pruner.planning.plan import read_made_plan
from llm_pruner.system.errors import DataError, PlanError
from llm_pruner.system.files import write_text
from llm_pruner.system.records import Pair
from llm_pruner.system.text import printable

STRUCTURE_FILE = "model_structure.json"
COMPARISON_FILE = "model_comparison.json"
ORIGINAL_FILE = "original_model_analysis.json"
PRUNED_FILE = "pruned_model_analysis.json"
LAYERS_FILE = "pruning_summary_by_layer.txt"
ANALYSIS_FILES = (STRUCTURE_FILE, ORIGINAL_FILE, PRUNED_FILE, COMPARISON_FILE, LAYERS_FILE)

_LEGEND = (
    "removed: share of the parameters that are no longer stored; zeros: share of the stored parameters that are zero."
)


def reduction_ratio(before: int, after: int) -> float:
    """Removed share of ``before``: 0 if ``before`` is 0, below 0 if ``after`` is larger."""
    return (before - after) / before if before else 0.0


def compare(base: ModelStructure, pruned: ModelStructure) -> ModelComparison:
    """Compare two results of ``analyze_model``.

    Two ratios answer two questions, and neither replaces the other:

    - ``reduction_ratio`` is structural: the share of parameters that are no longer stored. Only this share makes a
      model smaller and faster without special kernels. It is 0 for a sparse model, whose shapes stay.
    - ``nonzero_reduction_ratio`` is the share of non-zero parameters that were removed or zeroed. It compares
      structured with sparse models.
    """
    before, after = base.totals, pruned.totals
    kept = {layer.layer_idx: layer for layer in pruned.layers}
    return ModelComparison(
        base=base.name,
        model=pruned.name,
        num_layers=Pair(before=base.num_layers, after=pruned.num_layers),
        totals=TotalsComparison(
            parameters=_quantity(before.parameters, after.parameters),
            nonzero=_quantity(before.nonzero, after.nonzero),
            bytes_on_disk=_quantity(before.bytes_on_disk, after.bytes_on_disk),
            sparsity=Pair(before=before.sparsity, after=after.sparsity),
        ),
        parts={part: BlockComparison(**_changes(held, after.parts[part])) for part, held in before.parts.items()},
        layers=tuple(_compare_layer(layer, kept.get(layer.layer_idx)) for layer in base.layers),
    )


def describe_layers(comparison: ModelComparison) -> str:
    """The comparison as an aligned table of text, with one line for each layer of the base and one line of totals."""
    totals = comparison.totals
    lines = [
        printable(f"{comparison.model} compared with {comparison.base}"),
        f"{_step(comparison.num_layers)} layers, {_step(totals.parameters)} parameters "
        f"({_percent(totals.parameters.reduction_ratio)} removed), {_step(totals.nonzero)} non-zero",
        "",
    ]
    attention, mlp = comparison.parts["attention"], comparison.parts["mlp"]
    sliced = any(layer.shortcut.before or layer.shortcut.after for layer in comparison.layers)
    headers = [
        "layer",
        *("attention", "removed", "heads", "groups"),
        *("MLP", "removed", "channels"),
        *(("shortcuts",) if sliced else ()),
        *("layer total", "removed", "zeros", ""),
    ]
    rows = [_layer_row(layer, sliced) for layer in comparison.layers]
    total = [
        "all",
        *(_step(attention.parameters), _percent(attention.reduction_ratio), "", ""),
        *(_step(mlp.parameters), _percent(mlp.reduction_ratio), ""),
        *((_step(comparison.parts["shortcut"].parameters),) if sliced else ()),
        *_sum_of_layers(comparison.layers),
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
    original: ModelStructure | None = None,
) -> ModelComparison:
    """Analyse a model, compare it with its base and write the five analysis files into ``output``.

    Args:
        plan_path: plan.json of the pruned model, or None if it has all layers.
        name: name of the pruned model.
        base_name: name of its base.
        original: the base's analysis if it exists already (``original_model_analysis.json`` of any variant,
            or ``pruned_model_analysis.json`` of the base itself), so that the base's zeros are counted only once.

    Returns:
        The comparison.

    Raises:
        CheckpointError, PlanError, DataError: naming the file at fault.
    """
    output = Path(output)
    plan = None if plan_path is None else read_made_plan(plan_path)
    before = analyze_model(base_folder, base_name) if original is None else original
    if original:
        _check_original(original, Path(base_folder))
    try:
        if plan:
            units = [(layer.attention.key_value_groups, layer.mlp.channels) for layer in before.layers]
            plan.check_units(units, before.name)
    except PlanError as error:
        raise PlanError(f"{plan_path}: {error}; delete it and run again to make it anew") from None
    after = analyze_model(model_folder, name, plan)
    comparison = compare(before, after)
    TensorList(name=name, tensors=tuple(list_tensors(model_folder, plan))).write(output / STRUCTURE_FILE)
    before.write(output / ORIGINAL_FILE)
    after.write(output / PRUNED_FILE)
    comparison.write(output / COMPARISON_FILE)
    write_text(output / LAYERS_FILE, describe_layers(comparison), comment="{}")
    return comparison


def _check_original(original: ModelStructure, folder: Path) -> None:
    """Raise DataError for the analysis of another model than that of the folder, which need not be there any more."""
    numbers = [layer.layer_idx for layer in original.layers]
    told = (original.model_type, original.hidden_size, original.num_layers, original.totals.parameters)
    held = told
    if (folder / "config.json").exists():
        base = read_architecture(folder)
        held = (base.family, base.hidden_size, base.num_layers, base.total_parameters)
    if told != held or numbers != list(range(original.num_layers)):
        raise DataError(
            f"the analysis of '{original.name}' is not that of {folder}: model_type, hidden_size, num_layers and "
            f"parameters are {told}, not {held}, and its layers have the numbers {numbers}; delete it and run again to "
            "make it anew"
        )


def _quantity(before: int, after: int) -> Quantity:
    return Quantity(before=before, after=after, reduction_ratio=reduction_ratio(before, after))


class _Changes(TypedDict):
    """Fields of every ``BlockComparison``."""

    parameters: Pair[int]
    nonzero: Pair[int]
    sparsity: Pair[float]
    reduction_ratio: float
    nonzero_reduction_ratio: float


def _changes(before: Sizes, after: Sizes) -> _Changes:
    return {
        "parameters": Pair(before=before.parameters, after=after.parameters),
        "nonzero": Pair(before=before.nonzero, after=after.nonzero),
        "sparsity": Pair(
            before=sparsity(before.parameters, before.nonzero), after=sparsity(after.parameters, after.nonzero)
        ),
        "reduction_ratio": reduction_ratio(before.parameters, after.parameters),
        "nonzero_reduction_ratio": reduction_ratio(before.nonzero, after.nonzero),
    }


def _compare_layer(before: LayerStructure, kept: LayerStructure | None) -> LayerComparison:
    after = kept or empty_layer(before.layer_idx, before.attention.head_dim)
    ours, theirs = after.attention, before.attention
    return LayerComparison(
        layer_idx=before.layer_idx,
        position=after.position,
        is_zero_layer=after.attention.nonzero + after.mlp.nonzero == 0,
        **_changes(before, after),
        attention=AttentionComparison(
            **_changes(theirs, ours),
            heads=Pair(before=theirs.heads, after=ours.heads),
            key_value_groups=Pair(before=theirs.key_value_groups, after=ours.key_value_groups),
        ),
        mlp=MLPComparison(
            **_changes(before.mlp, after.mlp), channels=Pair(before=before.mlp.channels, after=after.mlp.channels)
        ),
        shortcut=Pair(before=before.shortcut.parameters, after=after.shortcut.parameters),
    )


def _layer_row(layer: LayerComparison, sliced: bool) -> list[str]:
    attention, mlp = layer.attention, layer.mlp
    note = "" if not layer.is_zero_layer else "gone" if layer.position is None else "all zero"
    return [
        str(layer.layer_idx),
        *(_step(attention.parameters), _percent(attention.reduction_ratio)),
        *(_step(attention.heads), _step(attention.key_value_groups)),
        *(_step(mlp.parameters), _percent(mlp.reduction_ratio), _step(mlp.channels)),
        *((_step(layer.shortcut),) if sliced else ()),
        *(_step(layer.parameters), _percent(layer.reduction_ratio)),
        "" if layer.position is None else _percent(layer.sparsity.after),
        note,
    ]


def _sum_of_layers(layers: Sequence[LayerComparison]) -> tuple[str, str, str]:
    """Parameters, reduction and zeros of all blocks together."""
    before = sum(layer.parameters.before for layer in layers)
    after = sum(layer.parameters.after for layer in layers)
    nonzero = sum(layer.nonzero.after for layer in layers)
    removed, zeros = reduction_ratio(before, after), sparsity(after, nonzero)
    return _step(Pair(before=before, after=after)), _percent(removed), _percent(zeros)


def _step(pair: Pair[int]) -> str:
    """``1,024 → 768``, or one number without a change."""
    return f"{pair.before:,}" if pair.before == pair.after else f"{pair.before:,} → {pair.after:,}"


def _percent(share: float) -> str:
    return f"{share:.2%}".replace("%", " %")

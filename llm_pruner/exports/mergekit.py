"""Export a depth plan as a mergekit configuration, from which mergekit makes the same model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from llm_pruner.models.architecture import Architecture
from llm_pruner.planning.plan import Plan
from llm_pruner.system.errors import PlanError
from llm_pruner.system.files import write_text
from llm_pruner.system.ownership import MADE_BY


def mergekit_yaml(
    plan: Plan, model_id: str, dtype: str = "float32", *, architecture: Architecture | None = None
) -> str:
    """A ``passthrough`` merge of the layers that a plan keeps.

    mergekit 0.1.5 with transformers 5 fails for Qwen2 and Qwen3 models: it writes a new ``num_hidden_layers`` but keeps
    the length of ``layer_types``. It also leaves out the biases of a Llama that has biases.

    Args:
        plan: a plan that keeps or removes whole layers.
        model_id: the base model, as a hub id or a folder for mergekit.
        dtype: dtype of the merge, such as ``float32`` or ``bfloat16``; the base's own dtype changes no weight.
        architecture: shape of the base. Without it, a plan that keeps the same first units of every layer looks like a
            plan that keeps layers whole.

    Raises:
        PlanError: if the plan cuts layers in width or drops blocks, which mergekit cannot do, or does not fit
            ``architecture``.
    """
    if architecture:
        plan.check(architecture)
        whole = plan == Plan.keep_layers(architecture, plan.kept_layers)
    else:
        first = plan.layers[0]
        alike = all((layer.groups, layer.channels) == (first.groups, first.channels) for layer in plan.layers)
        units = [range(len(kept)) for kept in (first.groups, first.channels)]
        whole = alike and [first.groups, first.channels] == list(map(tuple, units))
    if any(layer.dropped for layer in plan.layers):
        raise PlanError("this plan drops blocks of layers; mergekit can only leave out whole layers")
    if not whole:
        raise PlanError("this plan cuts layers in width; mergekit can only leave out whole layers")
    lines = [f"# {MADE_BY}", "slices:"]
    for start, end in kept_ranges(plan):
        lines += ["  - sources:", f"      - model: {json.dumps(model_id)}", f"        layer_range: [{start}, {end}]"]
    return "\n".join([*lines, "merge_method: passthrough", f"dtype: {dtype}", ""])


def write_mergekit_yaml(
    plan: Plan,
    path: str | os.PathLike[str],
    model_id: str,
    dtype: str = "float32",
    *,
    architecture: Architecture | None = None,
) -> None:
    """Write the configuration of ``mergekit_yaml`` to a file, for ``mergekit-yaml PATH FOLDER``."""
    write_text(path, mergekit_yaml(plan, model_id, dtype, architecture=architecture))


def base_dtype(config: Mapping[str, Any]) -> str:
    """The dtype of the stored weights of a model with this configuration."""
    return str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")


def kept_ranges(plan: Plan) -> list[tuple[int, int]]:
    """Runs of consecutive kept layers, as (first, last + 1)."""
    ranges: list[tuple[int, int]] = []
    for index in plan.kept_layers:
        if ranges and ranges[-1][1] == index:
            ranges[-1] = (ranges[-1][0], index + 1)
        else:
            ranges.append((index, index + 1))
    return ranges

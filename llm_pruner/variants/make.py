"""Make a pruned model, whatever its mechanism."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from llm_pruner.mechanisms import get_mechanism
from llm_pruner.mechanisms.job import Job, Outcome
from llm_pruner.models.architecture import refuse_quantized
from llm_pruner.system.device import limit_threads, pick_device
from llm_pruner.system.files import read_json, write_json
from llm_pruner.system.provenance import Run
from llm_pruner.variants.score import calibration_samples, read_layers
from llm_pruner.variants.variant import Variant


def prune(
    variant: Variant,
    base: Path,
    output: Path,
    *,
    scores: Path | None = None,
    importance: Path | None = None,
    search: Path | None = None,
    calibration: Path | None = None,
    device: str = "auto",
    batch_size: int = 8,
    progress: bool = False,
) -> dict[str, Any]:
    """Make one pruned model: ``output/model/``, ``output/pruning.json`` and, where there is one, ``output/plan.json``.

    Args:
        variant: what to make.
        base: folder of the base model.
        output: folder of the variant.
        scores: JSON of ``compute_scores``, for width and depth.
        importance: JSON of the layer scores that decide how much each layer may lose, where the options ask for them.
        search: JSON of ``search_split``, where the options ask for it.
        calibration: token file, for sparse and slicing methods that look at data.

    Raises:
        PlanError: if the amount cannot be reached.
        CheckpointError: if the base cannot be read.
    """
    refuse_quantized(base)
    sources = [read_json(path) for path in (scores, importance, search) if path]
    device = pick_device(device)
    limit_threads()
    run = Run({**variant.options, **variant.method_options}, seed=variant.method_options.get("seed"), device=device)
    job = Job(
        variant,
        base,
        output / "model",
        read_layers(scores),
        read_layers(importance),
        read_json(search)["best"]["split"] if search else None,
        calibration_samples(variant.build_method(), calibration),
        device,
        batch_size,
        progress,
    )
    outcome: Outcome = import_module(get_mechanism(variant.mechanism).prune_with).prune(job)
    if outcome.plan:
        outcome.plan.write(output / "plan.json")
    record = pruning_record(variant, outcome, run, sum(source["run"]["seconds"] for source in sources))
    write_json(output / "pruning.json", record)
    return record


def pruning_record(variant: Variant, outcome: Outcome, run: Run, scoring: float = 0.0) -> dict[str, Any]:
    """What ``pruning.json`` says.

    Args:
        scoring: seconds that scores took, which variants share.
    """
    asked = variant.asked
    return {
        "variant": variant.name,
        "method": variant.method,
        "mechanism": variant.mechanism,
        "structure": variant.structure,
        "parent": variant.parent,
        "asked": asked,
        "reached": asked and {"amount": outcome.reached, "of": asked["of"]},
        "options": {**variant.options, **variant.method_options},
        "notes": outcome.notes,
        "layers": [
            {"index": layer.index, "asked": layer.asked, "reached": layer.zeros / layer.weights}
            for layer in outcome.layers or ()
        ],
        "scores": [score.name for score in variant.scores],
        "seconds": {"scoring": scoring, "pruning": run.seconds, "total": round(scoring + run.seconds, 3)},
        "run": run.describe(),
    }

"""Make a pruned model by any mechanism."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from llm_pruner.data.tokens import read_tokens
from llm_pruner.mechanisms import get_mechanism
from llm_pruner.mechanisms.job import Job, Outcome
from llm_pruner.mechanisms.records import read_scores
from llm_pruner.mechanisms.width.split import SplitSearch
from llm_pruner.models.architecture import read_config, refuse_quantized
from llm_pruner.models.shapes import check_base
from llm_pruner.system.provenance import Run
from llm_pruner.system.runtime import Runtime
from llm_pruner.training.resume import clear_resume_point
from llm_pruner.variants.records import AmountRecord, LayerShareRecord, PruningRecord, SecondsRecord
from llm_pruner.variants.score import calibration_samples
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
    check: bool = True,
) -> PruningRecord:
    """Make one pruned model: ``output/model/``, ``output/pruning.json`` and, if there is a plan, ``output/plan.json``.

    A repair that trains, and was killed, goes on from its last block, and ends as if nothing had been.

    Args:
        variant: the variant to make.
        base: folder of the base model.
        output: folder of the variant.
        scores: JSON of ``compute_scores``, for width and depth.
        importance: JSON of layer scores that limit each layer's loss, if the options ask for them.
        search: JSON of ``search_split``, if the options ask for a search.
        calibration: token file, for sparse and slicing methods that look at data, and for repairs.
        check: check all weights of the base first; not needed if they were checked before.

    Raises:
        PlanError: if the amount is out of reach.
        DataError: if the calibration samples are damaged, or do not fit the base's vocabulary.
        CheckpointError: if the base cannot be read, or its weights do not match its config.json or are not finite.
    """
    refuse_quantized(base)
    if check:
        check_base(base)
    group_scores, ranking = (read_scores(path) if path else None for path in (scores, importance))
    found = SplitSearch.read(search) if search else None
    sources = [source.run.seconds for source in (group_scores, ranking, found) if source]
    runtime = Runtime(device, batch_size, progress).start()
    options = {**variant.options, **variant.method_options}
    run = Run(options, seed=variant.method_options.get("seed"), device=runtime.device)
    job = Job(
        variant,
        base,
        output / "model",
        group_scores,
        ranking,
        found.best.split if found else None,
        calibration_samples(variant.build_method(), calibration, base),
        runtime,
        read_tokens(calibration, read_config(base)["vocab_size"]) if calibration and variant.repaired else None,
    )
    outcome: Outcome = import_module(get_mechanism(variant.mechanism).prune_with).prune(job)
    if outcome.plan:
        outcome.plan.write(output / "plan.json")
    record = pruning_record(variant, outcome, run, sum(sources))
    record.write(output / "pruning.json")
    clear_resume_point(output)
    return record


def pruning_record(variant: Variant, outcome: Outcome, run: Run, scoring: float = 0.0) -> PruningRecord:
    """The record for ``pruning.json``.

    Args:
        scoring: seconds of the scores, which variants share.
    """
    unit = get_mechanism(variant.mechanism).unit(variant.options)
    return PruningRecord(
        variant=variant.name,
        method=variant.method,
        mechanism=variant.mechanism,
        structure=variant.structure,
        parent=variant.parent,
        asked=AmountRecord(amount=variant.amount, of=unit) if unit else None,
        reached=AmountRecord(amount=outcome.reached, of=unit) if unit else None,
        options={**variant.options, **variant.method_options},
        notes=tuple(outcome.notes),
        scores=tuple(score.name for score in variant.scores),
        seconds=SecondsRecord(scoring=scoring, pruning=run.seconds, total=round(scoring + run.seconds, 3)),
        run=run.describe(),
        layers=tuple(
            LayerShareRecord(index=layer.index, asked=layer.asked, reached=layer.zeros / layer.weights)
            for layer in outcome.layers or ()
        ),
        repair=outcome.repair,
    )

"""Compare classifiers: accuracy, size and latency of each run, with means over the seeds of each name."""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.encoders.folder import load_classifier, load_encoder_tokenizer
from llm_pruner.encoders.options import TaskOptions
from llm_pruner.encoders.records.classifier import KINDS
from llm_pruner.encoders.records.report import (
    Averaged,
    FinalReport,
    MeasuredRun,
    NameSummary,
    Problem,
    ReportedTask,
)
from llm_pruner.encoders.runs import read_record
from llm_pruner.encoders.tasks import Batch, ClassificationTask, encode, load_task
from llm_pruner.encoders.training import evaluate
from llm_pruner.evaluation.efficiency import timed
from llm_pruner.models.headers import bytes_on_disk
from llm_pruner.models.packed import memory_bytes, parameter_count
from llm_pruner.system.device import limit_threads, pick_device
from llm_pruner.system.errors import CheckpointError, PrunerError
from llm_pruner.system.progress import track
from llm_pruner.system.provenance import Run

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_WARM_UP_SECONDS = 0.5


def final_report(
    runs: Iterable[Path],
    output: Path,
    task: TaskOptions,
    *,
    batch_size: int = 32,
    repeats: int = 20,
    threads: int | None = None,
    device: str = "auto",
    progress: bool = False,
) -> FinalReport:
    """Measure each run on the task's test split, one after the other, and write the report as JSON.

    A broken run is listed under ``problems`` and the others are measured. Latency is the time of a forward pass over
    examples of the test split, the fastest of ``repeats``.

    Args:
        runs: folders with ``model`` and ``record.json``.
        output: JSON file to write.
        batch_size: examples in a batch; single examples are measured, too.
        repeats: timed forward passes.
        threads: threads of torch on a CPU; by default, all threads of the job.

    Raises:
        DataError: if the task cannot be read.
    """
    device = pick_device(device)
    threads = limit_threads(threads)
    loaded = load_task(task)
    run = Run({"batch_size": batch_size, "repeats": repeats, "task": task.model_dump()}, task.seed, device)
    measured, problems = [], []
    for folder in track(list(runs), "report", "model", show=progress):
        try:
            measured.append(_measure(folder, loaded, task.length, batch_size, repeats, device))
        except (PrunerError, OSError, ValueError, RuntimeError) as error:
            problems.append(Problem(run=str(folder), problem=str(error)))
    measured = with_distinct_names(sorted(measured, key=lambda run: KINDS.index(run.kind)))
    examples = len(loaded.splits["test"])
    report = FinalReport(
        task=ReportedTask(name=loaded.name, classes=loaded.labels, test_examples=examples),
        standard_error=0.5 / math.sqrt(examples),
        batch_size=batch_size,
        threads=threads,
        names=tuple(by_name(measured)),
        runs=tuple(measured),
        problems=tuple(problems),
        run=run.describe(),
    )
    report.write(output)
    return report


def _measure(
    folder: Path, task: ClassificationTask, length: int, batch_size: int, repeats: int, device: str
) -> MeasuredRun:
    record = read_record(folder)
    model = load_classifier(folder / "model", device=device)
    if model.config.num_labels != len(task.labels):
        raise CheckpointError(
            f"{folder}: the model has {model.config.num_labels} classes, but the task has {len(task.labels)}; "
            f"name the task of its training"
        )
    test = encode(task, "test", load_encoder_tokenizer(folder / "model", length), length)
    return MeasuredRun(
        name=record.name,
        kind=record.kind,
        seed=record.seed,
        folder=str(folder),
        **evaluate(model, test),
        validation=record.validation.accuracy if record.validation else None,
        parameters=parameter_count(model),
        bytes_on_disk=bytes_on_disk(folder / "model"),
        memory_bytes=memory_bytes(model),
        latency_ms=_latency(model, test, 1, repeats, device),
        batch_ms=_latency(model, test, min(batch_size, len(test.labels)), repeats, device),
        reached=record.reached,
        training_seconds=record.run.seconds,
    )


def _latency(model: PreTrainedModel, test: Batch, size: int, repeats: int, device: str) -> float:
    """Milliseconds of a forward pass over the first ``size`` examples, the fastest of ``repeats`` after a warm-up."""
    import torch

    batch = test.rows(torch.arange(size), device)

    def forward() -> Any:
        with torch.inference_mode():
            return model(**batch.inputs(model))

    until = time.perf_counter() + _WARM_UP_SECONDS
    while time.perf_counter() < until:
        forward()
    return 1000 * min(timed(device, forward)[0] for _ in range(repeats))


def with_distinct_names(runs: Sequence[MeasuredRun]) -> list[MeasuredRun]:
    """Add the folder to the names of runs that share both name and seed, as each seed of a name counts once."""
    seeds = Counter((run.name, run.seed) for run in runs)
    twice = {name for (name, _), count in seeds.items() if count > 1}
    return [run.model_copy(update={"name": f"{run.name} ({run.folder})"}) if run.name in twice else run for run in runs]


def by_name(runs: Sequence[MeasuredRun]) -> list[NameSummary]:
    """Summarise the runs of each name: mean and sample standard deviation over seeds, None for a single seed."""
    grouped: dict[str, list[MeasuredRun]] = {}
    for run in runs:
        grouped.setdefault(run.name, []).append(run)
    return [_summed_up(name, own) for name, own in grouped.items()]


def _summed_up(name: str, runs: Sequence[MeasuredRun]) -> NameSummary:
    values = {key: [getattr(run, key) for run in runs] for key in Averaged.model_fields}
    return NameSummary(
        name=name,
        kind=runs[0].kind,
        seeds=tuple(run.seed for run in runs),
        reached=runs[0].reached,
        mean=Averaged(**{key: statistics.fmean(own) for key, own in values.items()}),
        spread=Averaged(**{key: statistics.stdev(own) if len(own) > 1 else None for key, own in values.items()}),
    )

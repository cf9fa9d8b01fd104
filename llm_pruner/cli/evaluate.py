"""Commands that run a model: evaluate and doctor."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm_pruner.cli.chain import check_context
from llm_pruner.cli.common import (
    Device,
    Json,
    Model,
    Output,
    Progress,
    claim,
    emit,
    model_folder,
    separated,
    variant_folder,
)
from llm_pruner.cli.fields import Fields, with_fields
from llm_pruner.data.builtin.tasks import TASKS as BUILTIN_TASKS
from llm_pruner.data.sources import split_for
from llm_pruner.evaluation.records.efficiency import EfficiencyResult
from llm_pruner.evaluation.records.perplexity import PerplexityResult
from llm_pruner.evaluation.records.zero_shot import ZeroShotResult
from llm_pruner.system.records import Record
from llm_pruner.workflow.config import REAL_TASKS, EfficiencyConfig, PerplexityConfig, ZeroShotConfig

if TYPE_CHECKING:
    from llm_pruner.evaluation.divergence import Predictions

METRICS = ("ppl", "zeroshot", "speed", "memory")


@with_fields
def evaluate(
    *,
    model: Model,
    output: Output,
    metrics: Annotated[
        list[str],
        typer.Option(
            help=f"Metrics, separated by commas: {', '.join(METRICS)}. speed and memory are measured together."
        ),
    ] = ["ppl"],  # noqa: B006 a typer default, never changed
    tokens: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Token file to measure on.", rich_help_panel="Perplexity"),
    ] = None,
    perplexity: Annotated[
        PerplexityConfig, Fields(("source", "split", "window", "stride", "max_windows"), panel="Perplexity")
    ],
    reference: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Model folder to compare with: KL divergence, how often the top next token agrees, and times measured "
            "in turn.",
            rich_help_panel="Perplexity",
        ),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            help=f"lm-eval tasks, separated by commas. {', '.join(BUILTIN_TASKS)} are made from the built-in text.",
            show_default=",".join(REAL_TASKS),
            rich_help_panel="Zero-shot",
        ),
    ] = None,
    zero_shot: Annotated[ZeroShotConfig, Fields(("num_fewshot", "limit"), panel="Zero-shot")],
    efficiency: Annotated[
        EfficiencyConfig, Fields(("prompt_length", "new_tokens", "repeats", "threads"), panel="Speed and memory")
    ],
    seed: Annotated[int, typer.Option(min=0, help="Seed of few-shot examples and built-in tasks.")] = 0,
    name: Annotated[str | None, typer.Option(help="Name of the model. By default its folder's name.")] = None,
    device: Device = "auto",
    progress: Progress = True,
    as_json: Json = False,
) -> None:
    """Measure a model: perplexity.json, zero_shot.json, efficiency.json in OUTPUT.

    llm-pruner evaluate --model pruned/model --metrics ppl,speed --tokens test.safetensors --output pruned/evaluation
    """
    wanted = separated(metrics)
    _check_request(metrics, wanted, perplexity, reference)
    folder, other = model_folder(model), model_folder(reference) if reference else None
    models = [folder, other] if other else [folder]
    parts = {"ppl": "perplexity", "zeroshot": "zero_shot", "speed": "efficiency", "memory": "efficiency"}
    records = dict.fromkeys(output / f"{parts[metric]}.json" for metric in wanted)
    drawn = [output / "evaluation.safetensors"] if "ppl" in wanted and tokens is None else []
    texts = [path for path in (tokens, Path(perplexity.source)) if path and path.is_file()]
    chosen_tasks = separated(tasks or REAL_TASKS) if "zeroshot" in wanted else []
    task_folder = output / "tasks" if set(chosen_tasks) & set(BUILTIN_TASKS) else None
    claim(
        remade=[task_folder] if task_folder else [],
        records=[*records, *drawn],
        inputs=[*models, *texts],
    )
    if "ppl" in wanted:
        for one in models:
            check_context(one, perplexity.window)
    model_name = name or variant_folder(folder.absolute()).name
    measured: dict[str, Record] = {}
    # libraries print to stdout, which is for results
    with redirect_stdout(sys.stderr):
        if {"speed", "memory"} & set(wanted):
            # before anything else has used memory in this process
            from llm_pruner.evaluation.efficiency import measure_efficiency

            measured["efficiency"] = measure_efficiency(
                folder,
                output / "efficiency.json",
                name=model_name,
                device=device,
                base=other,
                **efficiency.model_dump(exclude={"beside_base"}),
            )
        if {"ppl", "zeroshot"} & set(wanted):
            from llm_pruner.data.builtin.tasks import write_tasks
            from llm_pruner.evaluation.quality import measure_perplexity, measure_zero_shot
            from llm_pruner.models.checkpoint import load, load_tokenizer
            from llm_pruner.system.device import limit_threads, pick_device

            chosen = pick_device(device)
            limit_threads(efficiency.threads)
            options: dict[str, Any] = perplexity.model_dump(include={"window", "stride", "max_windows"})
            text = tokens or (_encode_text(perplexity, folder, output) if "ppl" in wanted else None)
            # before the model is loaded, so that only one model is in memory
            known = _predict(folder, other, text, options, chosen, progress) if other and text else None
            loaded = load(folder, device=chosen)
        if "ppl" in wanted and text:
            measured["perplexity"] = measure_perplexity(
                loaded, text, model_name, options, reference=known, progress=progress
            )
        if "zeroshot" in wanted:
            options = {**zero_shot.model_dump(include={"num_fewshot", "limit"}), "seed": seed}
            if task_folder:
                write_tasks(task_folder, items=zero_shot.items, seed=seed)
            tokenizer = load_tokenizer(folder)
            measured["zero_shot"] = measure_zero_shot(loaded, tokenizer, model_name, chosen_tasks, task_folder, options)
    for part in ("perplexity", "zero_shot"):
        if part in measured:
            measured[part].write(output / f"{part}.json")
    emit({part: found.to_dict() for part, found in measured.items()}, _describe(measured.values()), as_json)


def _check_request(
    metrics: Sequence[str], wanted: Sequence[str], perplexity: PerplexityConfig, reference: Path | None
) -> None:
    if not wanted or not set(wanted) <= set(METRICS):
        raise typer.BadParameter(f"choose from {', '.join(METRICS)}, not {', '.join(metrics)}", param_hint="--metrics")
    if (perplexity.stride or 0) > perplexity.window:
        longer = f"{perplexity.stride} is longer than the window, {perplexity.window}"
        raise typer.BadParameter(longer, param_hint="--stride")
    if reference and not {"ppl", "speed"} & set(wanted):
        raise typer.BadParameter(
            "add ppl to --metrics to compare predictions, or speed to compare times", param_hint="--reference"
        )


def _encode_text(perplexity: PerplexityConfig, folder: Path, output: Path) -> Path:
    from llm_pruner.data.sampling import encode_evaluation

    tokens = output / "evaluation.safetensors"
    split = split_for(perplexity.source, perplexity.split, "evaluation")
    encode_evaluation(perplexity.source, split, folder, tokens)
    return tokens


def _predict(
    folder: Path, reference: Path, tokens: Path, options: Mapping[str, Any], device: str, progress: bool
) -> Predictions:
    from llm_pruner.evaluation.divergence import check_tokenizers, predict
    from llm_pruner.models.checkpoint import load

    check_tokenizers(folder, reference)
    return predict(load(reference, device=device), reference, tokens, options, progress=progress)


def doctor(model: Model, device: Device = "auto", as_json: Json = False) -> None:
    """Check that a model folder is whole and runs: configuration, weights, logits, generation, tokenizer.

    Other commands make the checks that need no forward pass before any work, and refuse a folder that fails.

    llm-pruner doctor --model pruned/model
    """
    from llm_pruner.models.doctor import examine

    with redirect_stdout(sys.stderr):
        checks = examine(model_folder(model), device=device)
    marks = {"ok": "✓", "failed": "✗", "skipped": "–"}
    lines = [f"{marks[check.outcome]} {check.name}: {check.reason}" for check in checks]
    failed = any(check.outcome == "failed" for check in checks)
    emit({"ok": not failed, "checks": [asdict(check) for check in checks]}, "\n".join(lines), as_json)
    if failed:
        raise typer.Exit(1)


def _describe(measured: Iterable[Record]) -> str:
    lines = []
    for found in measured:
        if isinstance(found, PerplexityResult):
            lines.append(f"perplexity {found.perplexity:.2f} on {found.tokens:,} tokens")
            if gap := found.divergence:
                error = f" ± {gap.mean_kl_stderr:.4f}" if gap.mean_kl_stderr is not None else ""
                lines.append(
                    f"KL divergence {gap.mean_kl:.4f}{error} nats a token, same next token in {gap.same_top:.2%}"
                )
        elif isinstance(found, ZeroShotResult):
            lines.append(f"zero-shot accuracy {found.mean.acc:.2%} ± {found.mean.acc_stderr:.2%}")
        elif isinstance(found, EfficiencyResult):
            seconds = found.batches[0].decode_seconds_per_token
            if found.base_batches:
                lines.append(f"decode {found.base_batches[0].decode_seconds_per_token / seconds:.2f} × as fast")
            lines.append(
                f"decode {1000 * seconds:.2f} ms per token, peak memory {found.peak_memory_bytes / 1e6:,.1f} MB"
            )
    return "\n".join(lines)

"""Perplexity, zero-shot accuracy and continuations of one model, loaded once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.data.tokens import read_facts, read_tokens
from llm_pruner.evaluation.continuations import measure_continuations
from llm_pruner.evaluation.divergence import Divergence, Predictions, text_facts
from llm_pruner.evaluation.perplexity import perplexity
from llm_pruner.evaluation.records.perplexity import PerplexityResult
from llm_pruner.evaluation.records.zero_shot import ZeroShotResult
from llm_pruner.evaluation.zero_shot import zero_shot
from llm_pruner.models.checkpoint import load, load_tokenizer
from llm_pruner.system.device import limit_threads, pick_device
from llm_pruner.system.provenance import Run

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def evaluate_quality(
    folder: Path,
    tokens: Path,
    *,
    name: str,
    perplexity_output: Path,
    zero_shot_output: Path,
    continuations_output: Path,
    tasks: Sequence[str],
    task_folder: Path | None,
    perplexity_options: Mapping[str, Any],
    zero_shot_options: Mapping[str, Any],
    continuations_options: Mapping[str, Any],
    predictions: Path | None = None,
    device: str = "auto",
    spread: bool = False,
    progress: bool = False,
) -> None:
    """Write ``perplexity.json``, ``zero_shot.json`` and ``continuations.json`` of a model.

    Args:
        folder: model folder.
        tokens: token file of the evaluation text.
        name: name of the model in tables.
        perplexity_output, zero_shot_output, continuations_output: the files to write.
        tasks: names of lm-eval tasks.
        task_folder: folder of additional task files.
        perplexity_options: options of ``perplexity``.
        zero_shot_options: options of ``zero_shot``.
        continuations_options: options of ``measure_continuations``.
        predictions: file of a reference's predictions on the same windows, to measure the divergence.
        device: device of the model.
        spread: spread the model over all GPUs; ``device`` is then ignored.
        progress: show a progress bar on stderr.

    Raises:
        DataError: if the predictions have other tokens, other windows or another vocabulary.
    """
    reference = Predictions.read(predictions, **text_facts(tokens, perplexity_options)) if predictions else None
    device = pick_device(device)
    limit_threads()
    model = load(folder, device=device, device_map="auto" if spread else None)
    measured = measure_perplexity(model, tokens, name, perplexity_options, reference=reference, progress=progress)
    measured.write(perplexity_output)
    tokenizer = load_tokenizer(folder)
    measure_zero_shot(model, tokenizer, name, tasks, task_folder, zero_shot_options).write(zero_shot_output)
    measure_continuations(model, tokenizer, name, **continuations_options).write(continuations_output)


def measure_perplexity(
    model: PreTrainedModel,
    tokens: Path,
    name: str,
    options: Mapping[str, Any],
    *,
    reference: Predictions | None = None,
    progress: bool = False,
) -> PerplexityResult:
    """Perplexity and bits per byte of a loaded model on a token file, as a record.

    Args:
        model: a loaded causal language model.
        tokens: the token file.
        name: name of the model in tables.
        options: options of ``perplexity``.
        reference: another model's predictions on the same windows, to measure the divergence.
        progress: show a progress bar on stderr.
    """
    stream, facts = read_tokens(tokens, model.config.vocab_size), read_facts(tokens)
    run = Run(options, device=str(model.device))
    divergence = Divergence(reference) if reference else None
    observe = divergence.add if divergence else None
    measured = perplexity(model, stream, progress=progress, observe=observe, **options)
    bytes_per_token = facts.get("bytes_per_token")
    return PerplexityResult(
        model=name,
        dataset=facts.get("source"),
        split=facts.get("split"),
        **dict(measured),
        bits_per_byte=measured.nll / math.log(2) / bytes_per_token if bytes_per_token else None,
        divergence=divergence.result() if divergence else None,
        run=run.describe(),
    )


def measure_zero_shot(
    model: PreTrainedModel,
    tokenizer: Any,
    name: str,
    tasks: Sequence[str],
    task_folder: Path | None,
    options: Mapping[str, Any],
) -> ZeroShotResult:
    """Zero-shot accuracy of a loaded model in tasks of lm-eval and of ``task_folder``, as a record."""
    run = Run(options, seed=options.get("seed"), device=str(model.device))
    scores = zero_shot(model, tokenizer, tasks, task_folder=task_folder, **options)
    return ZeroShotResult(model=name, **dict(scores), run=run.describe())

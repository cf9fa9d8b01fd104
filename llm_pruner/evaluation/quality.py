"""Perplexity and zero-shot of one model, loaded once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_pruner.data.tokens import read_facts, read_tokens
from llm_pruner.device import limit_threads, pick_device
from llm_pruner.evaluation.perplexity import perplexity
from llm_pruner.evaluation.zero_shot import zero_shot
from llm_pruner.files import write_json
from llm_pruner.models.checkpoint import load, load_tokenizer
from llm_pruner.provenance import Run


def evaluate_quality(
    folder: Path,
    tokens: Path,
    *,
    name: str,
    perplexity_output: Path,
    zero_shot_output: Path,
    tasks: Sequence[str],
    task_folder: Path | None,
    perplexity_options: Mapping[str, Any],
    zero_shot_options: Mapping[str, Any],
    device: str = "auto",
    progress: bool = False,
) -> None:
    """Write ``perplexity.json`` and ``zero_shot.json`` of a model.

    Args:
        folder: model folder.
        tokens: token file of the evaluation text.
        name: what the model is called in tables.
        tasks: names of lm-eval tasks.
        task_folder: task files of our own, besides lm-eval's.
        perplexity_options: of ``perplexity``.
        zero_shot_options: of ``zero_shot``.
    """
    device = pick_device(device)
    limit_threads()
    facts, stream = read_facts(tokens), read_tokens(tokens)
    model = load(folder, device=device)

    run = Run(perplexity_options, device=device)
    measured = perplexity(model, stream, progress=progress, **perplexity_options)
    bytes_per_token = facts.get("bytes_per_token")
    bits = measured["nll"] / math.log(2) / bytes_per_token if bytes_per_token else None
    source = {"model": name, "dataset": facts.get("source"), "split": facts.get("split")}
    write_json(perplexity_output, {**source, **measured, "bits_per_byte": bits, "run": run.describe()})

    run = Run(zero_shot_options, seed=zero_shot_options.get("seed"), device=device)
    scores = zero_shot(model, load_tokenizer(folder), tasks, task_folder=task_folder, **zero_shot_options)
    write_json(zero_shot_output, {"model": name, **scores, "run": run.describe()})

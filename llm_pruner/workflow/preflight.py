"""Checks of a configuration against its model, made before any job runs if the model's shape is known by then."""

from __future__ import annotations

import math
from collections.abc import Iterable

from llm_pruner.data.builtin.tasks import TASKS as BUILTIN_TASKS
from llm_pruner.encoders.architecture import EncoderShape, builtin_shape, check_pruned_share, read_shape
from llm_pruner.encoders.options import BUILTIN
from llm_pruner.evaluation.task_index import known_tasks
from llm_pruner.mechanisms import get_mechanism
from llm_pruner.models.architecture import Architecture, planned_architecture
from llm_pruner.models.check import check_folder
from llm_pruner.models.gguf import read_gguf
from llm_pruner.models.packages import ENCODERS, MODELS
from llm_pruner.models.sources import gguf_path
from llm_pruner.system.errors import CheckpointError, ConfigError, PlanError, nearest
from llm_pruner.system.paths import expanded, folder_exists
from llm_pruner.variants.variant import Variant
from llm_pruner.workflow.config import REAL_TASKS, Config


def preflight(config: Config, variants: Iterable[Variant], source: str = "config") -> None:
    """Refuse a configuration that asks more than its model can give.

    Args:
        config: a valid configuration.
        variants: as ``load_config`` resolved them.
        source: the configuration's name in messages.

    Raises:
        ConfigError: with every problem: an unsupported or damaged local model, ratios that leave nothing, more
            layers than the model has, rows that N:M does not divide, too few calibration tokens, windows longer than
            the model's context.
    """
    problems = _check_encoders(config) + _check_tasks(config)
    if problems:
        raise ConfigError(problems, source)
    place = "model.gguf_file" if config.model.gguf_file else "model.source"
    try:
        architecture = known_architecture(config)
    except (CheckpointError, OSError) as error:
        raise ConfigError([f"{place}: {error}"], source) from None
    if architecture is None:
        return
    for variant in variants:
        try:
            if not variant.step:
                samples = min(variant.method_options.get("samples") or math.inf, config.calibration.samples)
                check_variant(variant, architecture, int(samples) * config.calibration.length)
        except PlanError as error:
            problems.append(f"variants: {error}")
    context = architecture.config.get("max_position_embeddings")
    lengths = {
        "calibration.length": config.calibration.length,
        "healing.length": config.healing.length if config.heals else 0,
        "perplexity.window": config.perplexity.window,
        "efficiency.prompt_length + new_tokens": config.efficiency.prompt_length + config.efficiency.new_tokens,
    }
    problems += [
        f"{key}: {length} tokens, but the model's context is {context}"
        for key, length in lengths.items()
        if context and length > context
    ]
    if problems:
        raise ConfigError(problems, source)


def known_architecture(config: Config) -> Architecture | None:
    """The base model's shape, or None if only a download can tell."""
    model = config.model
    if model.kind == "builtin":
        builtin = {**config.model.builtin.model_dump(), "model_type": "llama", "tie_word_embeddings": True}
        return planned_architecture(builtin)
    if model.kind == "package":
        return planned_architecture(MODELS[model.source].config)
    if model.kind == "gguf":
        shape, _ = read_gguf(gguf_path(model.source, model.gguf_file))
        return planned_architecture(shape)
    return check_folder(expanded(model.source)) if model.kind == "folder" else None


def _check_encoders(config: Config) -> list[str]:
    """Problems of the classifiers' rows with a teacher whose shape is known."""
    encoders = config.encoders
    source = encoders.teacher.source
    problems = []
    try:
        if source == BUILTIN:
            encoder = builtin_shape(encoders.teacher.builtin)
        elif encoders.teacher.package:
            encoder = EncoderShape(ENCODERS[source].config)
        elif encoders.rows and folder_exists(source):
            encoder = read_shape(source)
        else:
            return []
    except (CheckpointError, OSError) as error:
        return [f"encoders.teacher.source: {error}"]
    for row in encoders.pruned:
        try:
            options = encoders.row_options(row)
            if not options.start:  # another row's shape is known only once that row is made
                check_pruned_share(encoder, options)
        except PlanError as error:
            problems.append(f"encoders.rows.{row}: {error}")
    unknown = [layer for layer in encoders.quantization.layer_bits if layer >= len(encoder.layers)]
    if encoders.rows and unknown:
        problems.append(
            f"encoders.quantization.layer_bits: no layer {unknown[0]}; the teacher has {len(encoder.layers)}"
        )
    return problems


def _check_tasks(config: Config) -> list[str]:
    """Problems of the names of lm-eval's tasks; none where lm-eval is not installed."""
    asked = set(config.zero_shot.tasks or ()) - {*BUILTIN_TASKS, *REAL_TASKS}
    known = known_tasks() if asked else None
    if known is None:
        return []
    names = {*known, *BUILTIN_TASKS}
    return [f"zero_shot.tasks: lm-eval has no task '{task}'{nearest(task, names)}" for task in sorted(asked - known)]


def check_variant(variant: Variant, architecture: Architecture, tokens: int | None = None) -> None:
    """Raise PlanError if the variant takes more than a model of this shape has.

    Args:
        tokens: calibration tokens that the variant will see, if known.
    """
    try:
        get_mechanism(variant.mechanism).check(variant, architecture, tokens)
    except PlanError as error:
        raise PlanError(f"{variant.name}: {error}") from None

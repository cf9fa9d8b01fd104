"""Commands that make models: prune, score, and the steps after pruning."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from llm_pruner.cli.chain import (
    Text,
    compose_name,
    find_mechanism,
    make_scores,
    make_variant,
    match_scores,
    refuse_existing,
    registered,
)
from llm_pruner.cli.common import (
    CALIBRATION,
    Batch,
    Device,
    Force,
    Json,
    Length,
    Model,
    Options,
    Output,
    Progress,
    Samples,
    Seed,
    Source,
    Split,
    claim,
    emit,
    model_folder,
    read_options,
    variant_folder,
)
from llm_pruner.mechanisms import get_mechanism
from llm_pruner.mechanisms.job import Outcome
from llm_pruner.mechanisms.records import read_scores
from llm_pruner.mechanisms.width.options import SEARCH
from llm_pruner.methods import METHODS
from llm_pruner.models.architecture import read_config
from llm_pruner.models.shapes import check_base
from llm_pruner.planning.plan import read_made_plan
from llm_pruner.steps import STEPS
from llm_pruner.steps.base import Need, step_class
from llm_pruner.steps.records import HealingFile
from llm_pruner.system.errors import ConfigError, PrunerError, nearest
from llm_pruner.system.provenance import Run
from llm_pruner.system.runtime import AUTO, Runtime
from llm_pruner.training.resume import RESUME_POINT
from llm_pruner.variants.grammar import derive, either, resolve
from llm_pruner.variants.make import pruning_record
from llm_pruner.variants.records import PruningRecord
from llm_pruner.variants.variant import DENSE, Variant, load_class


def _methods_like(incomplete: str) -> list[tuple[str, str]]:
    """Completion for the shell: methods whose names begin with ``incomplete``, and a description of each."""
    begun = [name for name in METHODS if name.lower().startswith(incomplete.lower())]
    return [(incomplete + name[len(incomplete) :], load_class(METHODS[name]).title) for name in begun]


STRATEGY = typer.Option(help="The method, in any case; `llm-pruner methods` lists them.", autocompletion=_methods_like)
_TEXT = "Calibration"


def _steps_like(incomplete: str) -> list[tuple[str, str]]:
    """Completion for the shell: steps whose names begin with ``incomplete``, and a description of each."""
    return [(name, step_class(STEPS[name]).title) for name in STEPS if name.startswith(incomplete)]


DenseFolder = Annotated[
    Path | None, typer.Option(exists=True, file_okay=False, help="Folder of the dense model, which kd imitates.")
]
StepOption = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="An option of the step; may be repeated."),
]
_HEALING = [name for name in STEPS if "healing" in step_class(STEPS[name]).needs]
_QUANTIZING = [name for name in STEPS if step_class(STEPS[name]).terminal]
_NEEDED: dict[Need, str] = {
    "base": "--base",
    "calibration": "--calibration",
    "healing": "--tokens",
    "held_out": "--held-out",
}


def prune(
    model: Model,
    output: Output,
    strategy: Annotated[str | None, STRATEGY] = None,
    structure: Annotated[
        str | None,
        typer.Option(
            help="width, depth, slice, unstructured, or N:M such as 2:4.",
            show_default="depth with --layers, else width or slice, by the method",
        ),
    ] = None,
    ratio: Annotated[
        float | None,
        typer.Option(
            help="Share to remove, such as 0.5, a multiple of 0.0001. It counts all parameters for width and depth, "
            "the blocks' linear weights for unstructured, the hidden width for slice."
        ),
    ] = None,
    layers: Annotated[int | None, typer.Option(min=1, help="Number of layers to remove, for depth.")] = None,
    option: Options = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="The variant's name as in config.yaml, such as GQA_uniform_2000: alone, or with a label and the "
            "same method and amount as the other options."
        ),
    ] = None,
    calibration: Source = CALIBRATION.source,
    split: Split = None,
    samples: Samples = None,
    length: Length = None,
    seed: Seed = CALIBRATION.seed,
    scores: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="Scores to use; may be repeated.", rich_help_panel=_TEXT),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Token file that decides a search for a split. By default, samples drawn beside the calibration "
            "samples.",
            rich_help_panel=_TEXT,
        ),
    ] = None,
    device: Device = "auto",
    batch_size: Batch = CALIBRATION.batch_size,
    progress: Progress = True,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make one pruned model: OUTPUT/model, pruning.json and plan.json.

    OUTPUT also keeps the calibration tokens and the scores. A second run uses scores again if they fit.

    llm-pruner prune --model base --strategy wanda --structure 2:4 --output pruned
    """
    variant = _variant(strategy, structure, ratio, layers, read_options(option), name)
    base = model_folder(model)
    searches = variant.options.get("split") == SEARCH
    text = Text(calibration, split, samples, length, seed)
    given = match_scores(variant, scores or ())
    sampled = ["calibration.safetensors", *(["held_out.safetensors"] if searches and not held_out else [])]
    refuse_existing(
        output,
        force,
        [base, *text.files, *given.values(), *([held_out] if held_out else [])],
        records=["pruning.json", *(["search.json"] if searches else [])],
        files=["plan.json", *(["split_search.png"] if searches else [])],
        reused=[
            *text.places(*(output / name for name in sampled)),
            *([output / ".search.trials.json"] if searches else []),
            *(output / "scores" / f"{score.name}.json" for score in variant.scores if score.name not in given),
        ],
        continued=[RESUME_POINT] if variant.repaired else [],
    )
    record = make_variant(
        variant,
        base,
        output,
        text,
        scores=scores or (),
        held_out=held_out,
        runtime=Runtime(device, batch_size, progress),
    )
    emit(record.to_dict(), _describe(record, output), as_json)


def score(
    model: Model,
    strategy: Annotated[str, STRATEGY],
    output: Annotated[Path, typer.Option("--output", "-o", dir_okay=False, help="The JSON to write.")],
    structure: Annotated[
        str | None, typer.Option(help="width or depth.", show_default="the method's first mechanism")
    ] = None,
    option: Options = None,
    calibration: Source = CALIBRATION.source,
    split: Split = None,
    samples: Samples = None,
    length: Length = None,
    seed: Seed = CALIBRATION.seed,
    device: Device = "auto",
    batch_size: Batch = CALIBRATION.batch_size,
    progress: Progress = True,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Score a model's key-value groups and channels, or its layers, for every amount at once.

    `prune --scores` takes the file. The calibration tokens are kept beside it.

    llm-pruner score --model base --strategy shortgpt --output shortgpt.json
    """
    base = model_folder(model)
    sampled = output.parent / "calibration.safetensors"
    text = Text(calibration, split, samples, length, seed)
    claim(
        records=[output] if force else [],
        reused=[*([] if force else [output]), *text.places(sampled)],
        inputs=[base, *text.files],
    )
    check_base(base)
    options = read_options(option)
    own = [get_mechanism(name) for name in mechanisms_of(strategy)]
    mechanism = find_mechanism(structure) if structure else next((each for each in own if each.score_with), own[0])
    wanted = resolve(registered(strategy) + mechanism.examples[0], options).score
    if wanted is None:
        what = structure or mechanism.name
        raise PrunerError(f"{registered(strategy)}: {what} has no scores before pruning; run llm-pruner prune directly")
    tokens = text.draw(base, sampled) if wanted.calibrated else None
    make_scores(wanted, base, tokens, output, Runtime(device, batch_size, progress), replace=force)
    scores = read_scores(output)
    emit(scores.to_dict(), f"{output}: {wanted.name}, {len(scores.layers)} layers", as_json)


def step(
    name: Annotated[str, typer.Argument(help=f"{either(STEPS)}.", autocompletion=_steps_like)],
    model: Model,
    output: Output,
    base: DenseFolder = None,
    calibration: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Token file of calibration samples (.safetensors).")
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Token file to train on (.safetensors).")
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Token file to check the training with.")
    ] = None,
    option: StepOption = None,
    device: Device = "auto",
    progress: Progress = True,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Apply a step to a finished model: OUTPUT/model, step.json, pruning.json, and healing.png after a training.

    If a step lacks a file, the error names it.

    llm-pruner step nf4 --model pruned --option double_quant=true --output small
    """
    given: dict[Need, Path | None] = {"base": base, "calibration": calibration, "healing": tokens, "held_out": held_out}
    taking = _Taking("NAME", STEPS, model, output, given, read_options(option))
    _take(name, taking, Runtime(device, progress=progress), force=force, as_json=as_json)


def heal(
    model: Model,
    step: Annotated[str, typer.Option(help=f"How: {either(_HEALING)}.")],
    tokens: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Token file to train on (.safetensors).")],
    held_out: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Token file to check the training with.")],
    output: Output,
    teacher: DenseFolder = None,
    option: StepOption = None,
    device: Device = "auto",
    progress: Progress = True,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Train a pruned model to win back quality: OUTPUT/model, step.json, pruning.json, healing.png.

    The same command continues a killed run from its last check.

    llm-pruner heal --model pruned --step lora --tokens train.safetensors --held-out check.safetensors --output healed
    """
    if step == "kd" and teacher is None:
        raise typer.BadParameter("needed for kd, which imitates the teacher", param_hint="--teacher")
    given: dict[Need, Path | None] = {"base": teacher, "healing": tokens, "held_out": held_out}
    taking = _Taking("--step", _HEALING, model, output, given, read_options(option))
    _take(step, taking, Runtime(device, progress=progress), force=force, as_json=as_json)


def quantize(
    model: Model,
    output: Output,
    step: Annotated[str, typer.Option(help=f"How: {either(_QUANTIZING)}.")] = "nf4",
    option: StepOption = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Store a model in 4 bits: OUTPUT/model, step.json, pruning.json.

    llm-pruner quantize --model pruned --option double_quant=true --output small
    """
    taking = _Taking("--step", _QUANTIZING, model, output, {}, read_options(option))
    _take(step, taking, AUTO, force=force, as_json=as_json)


class _Taking(NamedTuple):
    """A step as the command line describes it."""

    where: str
    """Place of the step's name on the command line, for messages."""
    known: Collection[str]
    """Steps allowed at this place."""
    model: Path
    output: Path
    files: Mapping[Need, Path | None]
    """Files that steps may need."""
    options: dict[str, Any]


def _take(name: str, given: _Taking, runtime: Runtime, *, force: bool, as_json: bool) -> None:
    """Apply a step, and print its result."""
    from llm_pruner.variants.step import take_step

    if name not in given.known:
        raise PrunerError(f"{given.where}: no '{name}' here{nearest(name, given.known)}")
    cls = step_class(STEPS[name])
    for need in cls.needs:
        if given.files.get(need) is None:
            raise typer.BadParameter(f"needed for {name}", param_hint=_NEEDED[need])
    parent, output = _parent(given.model), given.output
    files = {need: model_folder(path) if path.is_dir() else path for need, path in given.files.items() if path}
    refuse_existing(
        output,
        force,
        [parent.model, *files.values()],
        records=("pruning.json", "step.json"),
        files=["plan.json", *(["healing.png"] if "healing" in cls.needs else [])],
        continued=[RESUME_POINT] if "healing" in cls.needs else [],
    )
    record = take_step(
        derive(parent.variant, name, given.options),
        parent.model,
        parent.record,
        output,
        files=files,
        runtime=runtime,
    )
    if (parent.folder / "plan.json").exists():
        # the plan names the base's layers that are left, and a step changes no shape
        read_made_plan(parent.folder / "plan.json").write(output / "plan.json")
    else:
        # a plan of the model that this one replaced
        (output / "plan.json").unlink(missing_ok=True)
    last = record.steps[-1]
    if last.held_out:
        from llm_pruner.report.figures import FIGURES

        FIGURES["healing"].draw(HealingFile.read(output / "step.json"), output / "healing.png")
    emit(record.to_dict(), f"{output / 'model'}: {cls(**last.options).describe(last)}", as_json)


def _variant(
    strategy: str | None,
    structure: str | None,
    ratio: float | None,
    layers: int | None,
    options: dict[str, Any],
    name: str | None,
) -> Variant:
    """The variant from the command line: by its name, by the other options, or by both."""
    if strategy is None:
        if name is None or not structure is ratio is layers is None:
            raise typer.BadParameter("needed, or --name alone", param_hint="--strategy")
        return resolve(name, options)
    variant = resolve(compose_name(strategy, structure, ratio, layers), options)
    mechanism = get_mechanism(variant.mechanism)
    if structure and not (mechanism.owns(structure) or mechanism.asks == "nothing"):
        raise typer.BadParameter(f"{variant.method} prunes by {mechanism.name}", param_hint="--structure")
    if name is None:
        return variant
    named = resolve(name, options)
    if replace(named, name=variant.name) != variant:
        raise typer.BadParameter(f"'{name}' contradicts the other options: {variant.name}", param_hint="--name")
    return named


def mechanisms_of(method: str) -> Sequence[str]:
    """Mechanisms of a method.

    Raises:
        ConfigError: for an unknown method.
    """
    name = registered(method)
    if name not in METHODS:
        raise ConfigError([f"unknown method{nearest(name, METHODS)}"], name)
    return load_class(METHODS[name]).mechanisms


class _Parent(NamedTuple):
    """The model that a step starts from."""

    variant: Variant
    folder: Path
    model: Path
    record: PruningRecord


def _parent(given: Path) -> _Parent:
    """The parent variant of a step, from its pruning.json; without one, Dense."""
    model = model_folder(given)
    folder = variant_folder(model)
    path = folder / "pruning.json"
    if not path.exists():
        read_config(model)
        dense = resolve(DENSE)
        return _Parent(dense, folder, model, pruning_record(dense, Outcome(0.0), Run({})))
    record = PruningRecord.read(path)
    variant = Variant(
        name=record.variant,
        method=record.method,
        implementation="",
        mechanism=record.mechanism,
        structure=record.structure,
        amount=record.asked.amount if record.asked else 0.0,
        score=None,
        calibrated=False,
    )
    return _Parent(variant, folder, model, record)


def _describe(record: PruningRecord, output: Path) -> str:
    reached = record.amount_text("reached")
    lines = [f"{output / 'model'}: {record.variant}{f', {reached}' if reached else ''}", *record.notes]
    return "\n".join(lines)

"""Commands for classifiers: train a teacher, prune a student, store in 4 bits, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from llm_pruner.cli.chain import refuse_existing
from llm_pruner.cli.common import Device, Force, Json, Options, Output, Progress, claim, emit, finish, read_options
from llm_pruner.cli.fields import Fields, with_fields
from llm_pruner.encoders.options import (
    BUILTIN,
    PruningOptions,
    QATOptions,
    QuantizationOptions,
    TaskOptions,
    TeacherOptions,
)
from llm_pruner.encoders.records.classifier import PRUNED, STUDENT, TEACHER, ClassifierRecord
from llm_pruner.encoders.runs import RECORD, find_run, read_record
from llm_pruner.encoders.tasks import GLUE, check_dataset
from llm_pruner.system.errors import DataError, PrunerError
from llm_pruner.system.paths import file_exists, folder_exists
from llm_pruner.training.resume import RESUME_POINT, clear_resume_point
from llm_pruner.variants.grammar import checked
from llm_pruner.workflow.config import TimingConfig

app = typer.Typer(help="Compress classifiers: DistilBERT, BERT, RoBERTa.", no_args_is_help=True)

Task = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        metavar="KEY=VALUE",
        help="An option of the data set, such as text_column=body or length=64; may be repeated.",
        rich_help_panel="Data",
    ),
]
_DATASETS = f"builtin, {', '.join(GLUE)}, or a CSV or JSONL file."
Dataset = Annotated[str, typer.Option(help=_DATASETS, rich_help_panel="Data")]
LikeTeacher = Annotated[
    str | None,
    typer.Option(
        help=_DATASETS,
        show_default="the data set in the teacher's record",
        rich_help_panel="Data",
    ),
]
Teacher = Annotated[
    Path | None,
    typer.Option(
        exists=True, file_okay=False, help="Model or run folder.", show_default="the newest teacher beside OUTPUT"
    ),
]
Student = Annotated[
    Path | None,
    typer.Option(
        "--model",
        exists=True,
        file_okay=False,
        help="Model or run folder.",
        show_default="the newest pruned model beside OUTPUT",
    ),
]
LayerBits = Annotated[
    list[str] | None,
    typer.Option(metavar="LAYER=BITS", help="Bits of one layer, 4 or 8; may be repeated."),
]
Stored = Annotated[
    QuantizationOptions, Fields(("bits", "double_quant"), help={"bits": "Bits of other layers: 4 or 8."})
]


@app.command()
def train(
    output: Output,
    model: Annotated[
        str, typer.Option(help="The model to fine-tune: builtin, an id on the hub, or a local folder.")
    ] = BUILTIN,
    dataset: Dataset = BUILTIN,
    task: Task = None,
    option: Options = None,
    device: Device = "auto",
    progress: Progress = True,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Fine-tune the teacher: OUTPUT/model, record.json, curves.png. The same command continues a killed run.

    llm-pruner distill train --dataset sst2 --model distilbert-base-uncased --output runs/teacher
    """
    from llm_pruner.encoders.teacher import train_teacher

    options = checked(TeacherOptions, {**read_options(option), "source": model}, "--option")
    tasked = _task(dataset, task)
    _refuse(output, force, [*_local(model), *_texts(tasked)])
    record = train_teacher(output, tasked, options, device=device, progress=progress)
    _done(record, output, as_json)


@app.command()
def prune(
    output: Output,
    teacher: Teacher = None,
    model: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Model or run folder to prune.", show_default="the teacher"),
    ] = None,
    name: Annotated[str, typer.Option(help="Name in the report.")] = PRUNED,
    dataset: LikeTeacher = None,
    task: Task = None,
    option: Options = None,
    device: Device = "auto",
    progress: Progress = True,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Prune heads and FFN neurons while imitating the teacher, and cut them away.

    llm-pruner distill prune --option importance_mode=l2+kd_grad --option head_final_sparsity=0.4 --output runs/pruned
    """
    from llm_pruner.encoders.prune import prune_classifier

    options = checked(PruningOptions, read_options(option), "--option")
    followed = teacher or find_run(output.parent, TEACHER)
    tasked = _task(dataset, task, followed)
    _refuse(output, force, [*(_model(path) for path in (followed, model) if path), *_texts(tasked)])
    student = _model(model) if model else None
    record = prune_classifier(
        _model(followed), output, tasked, options, student=student, name=name, device=device, progress=progress
    )
    _done(record, output, as_json)


@app.command()
@with_fields
def ptq(
    *,
    output: Output,
    model: Student = None,
    stored: Stored,
    layer_bits: LayerBits = None,
    name: Annotated[str, typer.Option(help="Name in the report.")] = "PTQ",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Store a trained classifier in few bits, without training: NF4 through bitsandbytes, or 8-bit integers.

    llm-pruner distill ptq --model runs/pruned --layer-bits 0=8 --output runs/ptq
    """
    from llm_pruner.encoders.quantize import quantize_classifier

    options = _quantization(stored, layer_bits)
    source = model or find_run(output.parent, PRUNED, STUDENT)
    _refuse(output, force, [_model(source)], trains=False)
    seed = read_record(source).seed if (source / RECORD).exists() else None
    record = quantize_classifier(_model(source), output, options, name=name, seed=seed)
    _done(record, output, as_json)


@app.command()
@with_fields
def qat(
    *,
    output: Output,
    teacher: Teacher = None,
    model: Student = None,
    stored: Stored,
    layer_bits: LayerBits = None,
    name: Annotated[str, typer.Option(help="Name in the report.")] = "QKD",
    dataset: LikeTeacher = None,
    task: Task = None,
    option: Options = None,
    device: Device = "auto",
    progress: Progress = True,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Train a classifier for few bits while it imitates the teacher, and save the quantised weights.

    llm-pruner distill qat --option beta_hidden=0.5 --output runs/qkd
    """
    from llm_pruner.encoders.quantize import train_quantized

    options = checked(QATOptions, read_options(option), "--option")
    quantization = _quantization(stored, layer_bits)
    followed = teacher or find_run(output.parent, TEACHER)
    source = model or find_run(output.parent, PRUNED, STUDENT)
    tasked = _task(dataset, task, followed)
    _refuse(output, force, [_model(followed), _model(source), *_texts(tasked)])
    record = train_quantized(
        _model(followed),
        _model(source),
        output,
        tasked,
        options,
        quantization,
        name=name,
        device=device,
        progress=progress,
    )
    _done(record, output, as_json)


@app.command()
@with_fields
def report(
    *,
    runs: Annotated[list[Path], typer.Option(help="Run folder, or a folder of run folders; may be repeated.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", file_okay=False, help="Folder of final_report.json and .png.")
    ] = Path("results"),
    dataset: LikeTeacher = None,
    task: Task = None,
    timing: Annotated[TimingConfig, Fields(("batch_size", "repeats", "threads"))],
    device: Device = "auto",
    progress: Progress = True,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Compare classifiers on the test split: accuracy against size and latency. Broken runs are named (exit code 3).

    llm-pruner distill report --runs runs --output results
    """
    from llm_pruner.encoders.report import final_report
    from llm_pruner.report.encoders import encoders_table
    from llm_pruner.report.figures import FIGURES
    from llm_pruner.report.table import markdown

    folders = [folder for place in runs for folder in _runs(place)]
    followed = next((path for path in folders if _is_teacher(path)), None)
    tasked = _task(dataset, task, followed)
    claim(
        records=[output / "final_report.json"],
        files=[output / "final_report.png"],
        inputs=[*(folder / part for folder in folders for part in ("model", RECORD)), *_texts(tasked)],
        force=force,
    )
    output.mkdir(parents=True, exist_ok=True)
    made = final_report(
        folders,
        output / "final_report.json",
        tasked,
        **timing.model_dump(),
        device=device,
        progress=progress,
    )
    FIGURES["final_report"].draw(made, output / "final_report.png")
    emit(made.to_dict(), markdown(encoders_table(made)), as_json)
    finish(f"{problem.run}: {problem.problem}" for problem in made.problems)


def _refuse(output: Path, force: bool, inputs: list[Path], *, trains: bool = True) -> None:
    """Refuse to replace a run without ``force``, as ``refuse_existing`` does."""
    refuse_existing(
        output,
        force,
        inputs,
        records=[RECORD],
        files=["curves.png"] if trains else [],
        continued=[RESUME_POINT] if trains else [],
    )


def _local(source: str) -> list[Path]:
    return [Path(source)] if file_exists(source) or folder_exists(source) else []


def _texts(task: TaskOptions) -> list[Path]:
    """Files with the examples."""
    return [Path(path) for path in (task.dataset, task.validation, task.test) if path and file_exists(path)]


def _task(dataset: str | None, pairs: list[str] | None, teacher: Path | None = None) -> TaskOptions:
    """Options of the data set: from the command line, else from the teacher's record.

    Raises:
        PrunerError: if neither names a data set.
    """
    told = read_record(teacher).run.options if teacher is not None and (teacher / RECORD).exists() else {}
    known: dict[str, Any] = {}
    if dataset is not None:
        known = {"dataset": dataset}
    elif "task" in told:
        known = told["task"]
    else:
        raise PrunerError("no record names the data set; name it with --dataset")
    options = checked(TaskOptions, {**known, **read_options(pairs)}, "--task")
    check_dataset(options)
    return options


def _quantization(stored: QuantizationOptions, layer_bits: list[str] | None) -> QuantizationOptions:
    return checked(QuantizationOptions, {**stored.model_dump(), "layer_bits": read_options(layer_bits)}, "--layer-bits")


def _model(folder: Path) -> Path:
    """The model folder inside a run folder; ``folder`` itself if it is a model folder."""
    return folder / "model" if (folder / RECORD).exists() else folder


def _runs(place: Path) -> list[Path]:
    """A run, or all runs below a folder. The report names a place without runs."""
    found = sorted(path.parent for path in place.rglob(RECORD))
    return found or [place]


def _is_teacher(folder: Path) -> bool:
    """Whether a run's record is a teacher's. The report names a record that cannot be read."""
    try:
        return read_record(folder).kind == TEACHER
    except DataError:
        return False


def _done(record: ClassifierRecord, output: Path, as_json: bool) -> None:
    from llm_pruner.report.figures import FIGURES

    clear_resume_point(output)
    if record.history:
        FIGURES["classifier_curves"].draw(record, output / "curves.png")
    lines = [f"{output / 'model'}: {record.name}, {record.bytes_on_disk / 1e6:,.2f} MB"]
    if record.validation:
        lines[0] += f", validation accuracy {record.validation.accuracy:.2%}"
    if record.reached:
        gone = record.reached
        lines.append(f"removed {gone.heads:.1%} of the heads, {gone.neurons:.1%} of the FFN neurons")
    emit(record.to_dict(), "\n".join(lines), as_json)

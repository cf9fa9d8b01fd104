"""Commands that compare models by files: analyze, summarize, compare, table, show, plot. None imports torch."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError

from llm_pruner.cli.common import (
    Force,
    Json,
    Model,
    Output,
    claim,
    emit,
    finish,
    model_folder,
    variant_folder,
    variant_folders,
)
from llm_pruner.system.errors import DataError, PrunerError
from llm_pruner.system.files import write_text
from llm_pruner.system.text import from_csv_cell, printable
from llm_pruner.variants.records import PruningRecord
from llm_pruner.variants.repeats import split_repeat
from llm_pruner.variants.variant import DENSE

if TYPE_CHECKING:
    from llm_pruner.report.table import Results as Measured

Results = Annotated[
    Path,
    typer.Option("--result-dir", exists=True, file_okay=False, help="Folder of variant folders, or of a whole run."),
]


def analyze(
    model: Model,
    base: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of its base model.")],
    output: Output,
    plan: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="plan.json of the model.", show_default="beside the model, if any"
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model. By default its folder's name.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Compare a pruned model with its base, layer by layer.

    llm-pruner analyze --model pruned/model --base base --output pruned/analysis
    """
    from llm_pruner.analysis.comparison import ANALYSIS_FILES, describe_layers, write_analysis

    folder = model_folder(model)
    variant = variant_folder(folder.absolute())
    plan = plan or _plan_of(variant)
    inputs = [folder, model_folder(base), *([plan] if plan else [])]
    claim(files=[output / name for name in ANALYSIS_FILES], inputs=inputs, force=force)
    comparison = write_analysis(model_folder(base), folder, plan, output, name or variant.name)
    if plan is None and comparison.num_layers.before != comparison.num_layers.after:
        typer.echo("no plan.json: the model's layers are compared with the base's first layers", err=True)
    emit(comparison.to_dict(), describe_layers(comparison).rstrip(), as_json)


def analyze_batch(
    models_dir: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of variant folders.")],
    base_model: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of the base model.")],
    output_dir: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder for each NAME/analysis/.", show_default="the folder of models"),
    ] = None,
    merge_results: Annotated[
        bool, typer.Option("--merge-results", help="Also write models_structure_summary.json and .txt.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Analyse every variant below a folder, each into its analysis/. Broken variants are named and skipped.

    llm-pruner analyze-batch --models-dir baselines --base-model base --merge-results
    """
    from llm_pruner.analysis.comparison import ANALYSIS_FILES, write_analysis
    from llm_pruner.analysis.structure import analyze_model
    from llm_pruner.analysis.summary import SUMMARY_FILE, write_summary

    base = model_folder(base_model)
    folders = variant_folders([models_dir])
    places = {folder: output_dir / folder.name if output_dir else folder for folder in folders}
    merged = [(output_dir or models_dir) / f"{SUMMARY_FILE}{suffix}" for suffix in (".json", ".txt")]
    claim(
        files=[
            *(place / "analysis" / name for place in places.values() for name in ANALYSIS_FILES),
            *(merged if merge_results else []),
        ],
        inputs=[base, *map(model_folder, folders)],
        force=force,
    )
    original = analyze_model(base, "Dense")
    analysed: list[Path] = []
    failed: dict[str, str] = {}
    for folder, place in places.items():
        try:
            model = base if _is_base_elsewhere(folder) else model_folder(folder)
            write_analysis(base, model, _plan_of(folder), place / "analysis", folder.name, original=original)
            analysed.append(place)
        except PrunerError as error:
            failed[folder.name] = str(error)
    if merge_results and analysed:
        write_summary(analysed, output_dir or models_dir)
    names = [folder.name for folder in analysed]
    emit({"analysed": names, "failed": failed}, "\n".join(f"{folder / 'analysis'}" for folder in analysed), as_json)
    finish(f"{name}: not analysed: {problem}" for name, problem in failed.items())


def summarize(
    places: Annotated[
        list[Path] | None,
        typer.Argument(exists=True, file_okay=False, metavar="[DIR]...", help="Folders of variants, or variants."),
    ] = None,
    dirs: Annotated[
        list[Path] | None, typer.Option(exists=True, file_okay=False, help="The same; further folders may follow.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="NAME", help="Write NAME.json and NAME.txt.")
    ] = Path("models_structure_summary"),
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Sum up all analyses. For a model without an analysis, the command to make it is listed.

    llm-pruner summarize --dirs baselines results --output summary
    """
    from llm_pruner.analysis.summary import describe_structures, summarize_structures

    if not output.name:
        raise typer.BadParameter(f"'{output}' is no name for NAME.json and NAME.txt", param_hint="--output")
    folders = variant_folders([*(dirs or ()), *(places or ())])
    written = [output.with_name(f"{output.name}{suffix}") for suffix in (".json", ".txt")]
    claim(files=written, inputs=_read_from(folders), force=force)
    damaged: dict[str, str] = {}
    whole = []
    for folder in folders:
        try:
            summarize_structures([folder])
            whole.append(folder)
        except DataError as error:
            damaged[folder.name] = str(error)
    _refuse_namesakes(whole)
    summary = summarize_structures(whole).model_copy(update={"damaged": damaged})
    lines = [describe_structures(summary)]
    lines += [f"✗ {folder.name}: {_how_to_analyze(folder)}" for folder in whole if folder.name in summary.missing]
    lines += [f"✗ {name}: left out: {problem}" for name, problem in damaged.items()]
    text = "\n".join(lines).rstrip() + "\n"
    json_file, text_file = written
    summary.write(json_file)
    write_text(text_file, text, comment="{}")
    emit(summary.to_dict(), text.rstrip(), as_json)
    finish(
        [f"{name}: left out: {problem}" for name, problem in damaged.items()]
        + [f"{name}: no analysis" for name in summary.missing]
    )


def compare(
    dirs: Annotated[
        list[Path], typer.Argument(exists=True, file_okay=False, help="Variant folders, or folders of them.")
    ],
    as_json: Json = False,
) -> None:
    """Print the measurements of models as one Markdown table.

    llm-pruner compare baselines/Dense baselines/Wanda_2000
    """
    from llm_pruner.report.table import markdown, read_results, summary_table

    whole, damaged = _readable(variant_folders(dirs))
    table = summary_table(read_results(whole))
    emit(json.loads(table.frame.to_json(orient="records", double_precision=15)), markdown(table).rstrip(), as_json)
    finish(damaged)


def table(
    result_dir: Results,
    output: Annotated[
        Path, typer.Option("--output", "-o", dir_okay=False, help="File to write: .xlsx, .csv, .md or .html.")
    ] = Path("summary.xlsx"),
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write the measurements of all models as a workbook, a CSV file, Markdown or an interactive page.

    llm-pruner table --result-dir baselines --output summary.xlsx
    """
    from llm_pruner.report.page.write import write_page
    from llm_pruner.report.recommendation import recommendation_table
    from llm_pruner.report.table import read_results, summary_table, write_csv, write_markdown
    from llm_pruner.report.workbook import write_workbook

    writers: dict[str, Callable[[Measured, Path], None]] = {
        ".xlsx": write_workbook,
        ".csv": lambda results, path: write_csv(summary_table(results), path),
        ".md": lambda results, path: write_markdown(summary_table(results), path, [recommendation_table(results)]),
        ".html": write_page,
    }
    if output.suffix not in writers:
        raise typer.BadParameter(f"'{output}' ends in none of {', '.join(writers)}", param_hint="--output")
    folders = variant_folders([result_dir])
    claim(files=[output], inputs=_read_from(folders), force=force)
    whole, damaged = _readable(folders)
    results = read_results(whole)
    writers[output.suffix](results, output)
    emit({"output": str(output), "models": [model.name for model in results.models]}, str(output), as_json)
    finish(damaged)


def show(
    run: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, metavar="[DIR]", help="Folder of a run, or of variants.")
    ] = Path(),
    as_json: Json = False,
) -> None:
    """Print a run's results: the table, the best models by size, and the files' places.

    The terminal's width decides the number of columns. Rows and their order are as in the run's table.

    llm-pruner show runs/quick
    """
    from rich.console import Console

    from llm_pruner.encoders.records.report import FinalReport
    from llm_pruner.report.encoders import encoders_table
    from llm_pruner.report.recommendation import best_at_sizes
    from llm_pruner.report.table import read_results
    from llm_pruner.report.terminal import show_run

    report = run / "results" / "final_report.json"
    more = [encoders_table(FinalReport.read(report))] if report.exists() else []
    whole, damaged = _readable(_rows_of_run(run)) if not more or (run / "baselines").exists() else ([], [])
    results = read_results(whole) if whole else None
    if as_json:
        found = best_at_sizes(results) if results else []
        best = [
            {
                "share": one.share,
                "model": one.choice.best and one.choice.best.name,
                "ties": list(one.choice.ties),
                "in_full_precision": one.in_full_precision
                and one.in_full_precision.best
                and one.in_full_precision.best.name,
            }
            for one in found
        ]
        emit({"models": [model.name for model in results.models] if results else [], "best": best}, "", as_json)
    else:
        show_run(results, Console(highlight=False), run, more)
    finish(damaged)


def recommend(
    run: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, metavar="[DIR]", help="Folder of a run, or of variants.")
    ] = Path(),
    max_bytes: Annotated[str | None, typer.Option(metavar="SIZE", help="Weights on disk, such as 300MB.")] = None,
    max_parameters: Annotated[str | None, typer.Option(metavar="COUNT", help="Parameters, such as 100M.")] = None,
    max_memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Peak memory, such as 1GB.")] = None,
    max_latency_ms: Annotated[
        float | None,
        typer.Option(min=0, help="Milliseconds for each further token on the run's machine."),
    ] = None,
    min_speedup: Annotated[
        float | None, typer.Option(min=0, help="Decoding speed as a multiple of the base's.")
    ] = None,
    min_agreement: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of tokens for which the model has the base's likeliest next token."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Name the model of lowest perplexity within limits, the runner-up, and whether the two can be told apart.

    llm-pruner recommend runs/qwen3 --max-bytes 300MB
    """
    from llm_pruner.report.recommendation import Limit, describe_choice
    from llm_pruner.report.recommendation import recommend as choose
    from llm_pruner.report.table import read_results

    bounds = {
        "bytes_on_disk": _quantity(max_bytes, "--max-bytes"),
        "parameters": _quantity(max_parameters, "--max-parameters", billions="B"),
        "peak_memory_bytes": _quantity(max_memory, "--max-memory"),
        "decode_ms": max_latency_ms,
    }
    floors = {"decode_speedup": min_speedup, "same_top": min_agreement}
    limits = [Limit(column, bound) for column, bound in bounds.items() if bound is not None]
    limits += [Limit(column, bound, at_least=True) for column, bound in floors.items() if bound is not None]
    if not limits:
        raise typer.BadParameter("give a limit, such as --max-bytes 300MB")
    whole, damaged = _readable(_rows_of_run(run))
    results = read_results(whole)
    found = choose(results, limits)
    difference, error = found.gap
    told = {
        "best": found.best and found.best.name,
        "runner_up": found.runner_up and found.runner_up.name,
        "nll_more": difference,
        "nll_more_stderr": error,
        "told_apart": found.apart,
        "ties": list(found.ties),
    }
    emit(told, describe_choice(found, results), as_json)
    finish(damaged)


def _quantity(text: str | None, option: str, billions: str = "G") -> int | None:
    """A number with a unit, such as 300MB; of counts, B is a billion.

    >>> _quantity("1.5B", "--max-parameters", billions="B")
    1500000000
    """
    if text is None:
        return None
    try:
        return int(TypeAdapter(ByteSize).validate_python(text.replace(billions, "G")))
    except ValidationError:
        example = "300MB or 1.5GB" if billions == "G" else "100M or 1.5B"
        raise typer.BadParameter(f"'{text}' is no quantity such as {example}", param_hint=option) from None


def plot(
    result_dir: Results,
    output: Output,
    scores: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Folder of scores files.", show_default="resources/scores of a run"
        ),
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Draw the figures of a run: quality against size, losses by layer, scores by layer.

    llm-pruner plot --result-dir baselines --output figures
    """
    from llm_pruner.report.figures import FIGURES, RUN
    from llm_pruner.report.table import read_results

    whole, damaged = _readable(variant_folders([result_dir]))
    usual = [place / "resources" / "scores" for place in (result_dir, result_dir.absolute().parent)]
    folder = scores or next((place for place in usual if place.is_dir()), None)
    results = read_results(whole, scores=sorted(folder.glob("*.json")) if folder else ())
    wanted = {
        output / f"{name}.png": figure
        for name, figure in FIGURES.items()
        if figure.shows == RUN and (results.scores or not figure.needs_scores)
    }
    claim(files=wanted, inputs=[*_read_from(whole), *([folder] if folder else [])], force=force)
    for path, figure in wanted.items():
        figure.draw(results, path)
    drawn = sorted(str(path) for path in output.glob("*.png"))
    emit({"figures": drawn}, "\n".join(drawn), as_json)
    finish(damaged)


def _read_from(variants: Sequence[Path]) -> list[Path]:
    """Files that tables and summaries of variants read."""
    parts = ("model", "analysis", "evaluation", "pruning.json", "step.json", "plan.json")
    return [folder / part for folder in variants for part in parts]


def _rows_of_run(run: Path) -> list[Path]:
    """Folders of the variants in a run's table, in its order, with repeats; all variants if the run has no table."""
    folders = {printable(folder.name): folder for folder in variant_folders([run])}
    summary = run / "results" / "summary.csv"
    if not summary.exists():
        return list(folders.values())
    with summary.open(encoding="utf-8", newline="") as file:
        names = [from_csv_cell(row["variant"]) for row in csv.DictReader(file)]
    again = [name for name in folders if name not in names and split_repeat(name)[0] in names]
    return [folders[name] for name in (*names, *again) if name in folders]


def _is_base_elsewhere(variant: Path) -> bool:
    """Whether a variant is the base itself without its files: its model consists of links, here broken."""
    record = variant / "pruning.json"
    links = [file for file in (variant / "model").glob("*") if file.is_symlink() and not file.exists()]
    return bool(links) and record.exists() and PruningRecord.read(record).variant == DENSE


def _plan_of(variant: Path) -> Path | None:
    """The plan of a variant, or of the variant that its steps began with."""
    places = (variant, variant.with_name(variant.name.partition("+")[0]))
    return next((place / "plan.json" for place in places if (place / "plan.json").exists()), None)


def _how_to_analyze(folder: Path) -> str:
    return f"no analysis; llm-pruner analyze --model {model_folder(folder)} --base BASE --output {folder / 'analysis'}"


def _readable(folders: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Folders with readable results, and the problems of all others."""
    from llm_pruner.report.table import read_results

    whole, damaged = [], []
    for folder in folders:
        try:
            read_results([folder])
            whole.append(folder)
        except DataError as error:
            damaged.append(f"{folder.name}: left out: {error}")
    _refuse_namesakes(whole)
    return whole, damaged


def _refuse_namesakes(folders: Sequence[Path]) -> None:
    """Raise PrunerError if two folders would have the same name in a table."""
    seen: dict[str, Path] = {}
    for folder in folders:
        other = seen.setdefault(folder.name, folder)
        if other != folder:
            raise PrunerError(f"{other} and {folder} have the same name; rename one or leave one out")

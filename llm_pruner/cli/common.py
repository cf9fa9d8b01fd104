"""Shared by all commands: typed options, output for people and for machines, and the handling of errors."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer
from typer.core import TyperGroup

from llm_pruner.system.errors import PrunerError
from llm_pruner.system.outputs import replaced_by
from llm_pruner.workflow.config import CalibrationConfig

Outputs = ParamSpec("Outputs")

DAMAGED = 3
"""Exit code of a command that finished although some inputs were damaged or missing."""

CALIBRATION = CalibrationConfig()
_NAMED = 10
"""Largest number of replaced files shown by name; the others are counted."""
_MACHINE = "Machine"
_TEXT = "Calibration"

Model = Annotated[Path, typer.Option("--model", exists=True, file_okay=False, help="Model folder.")]
Output = Annotated[Path, typer.Option("--output", "-o", file_okay=False, help="Folder to write.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Force = Annotated[
    bool, typer.Option("--force", help="Replace existing files and folders; never what this tool did not make.")
]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="An option of the method or its mechanism; may be repeated."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel=_MACHINE)]
Batch = Annotated[int, typer.Option("--batch-size", min=1, help="Samples run at once.", rich_help_panel=_MACHINE)]


def _libraries_too(progress: bool) -> bool:
    """Apply ``--progress`` to the libraries' own bars for loading and downloading too."""
    if not progress:
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    return progress


Progress = Annotated[
    bool, typer.Option(help="Show progress on stderr.", callback=_libraries_too, rich_help_panel=_MACHINE)
]
Source = Annotated[
    str,
    typer.Option(
        "--calibration",
        metavar="SOURCE",
        help="Text to draw from: a token file (.safetensors), text or JSONL file, or builtin, wikitext2, c4, ptb.",
        rich_help_panel=_TEXT,
    ),
]
Split = Annotated[
    str | None, typer.Option(help="Split of a named source. By default the usual split.", rich_help_panel=_TEXT)
]
Samples = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Samples to draw.",
        show_default=f"{CALIBRATION.samples}, or all of a token file",
        rich_help_panel=_TEXT,
    ),
]
Length = Annotated[
    int | None,
    typer.Option(
        min=2,
        help="Tokens in a sample.",
        show_default=f"{CALIBRATION.length}, or as in a token file",
        rich_help_panel=_TEXT,
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the draw of samples.", rich_help_panel=_TEXT)]


class Commands(TyperGroup):
    """A group of commands that turns a PrunerError into one message and exit code 1, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (PrunerError, OSError) as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from None


def emit(value: Any, text: str, as_json: bool) -> None:
    """Print a command's result on stdout: JSON for machines, or text for people."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) if as_json else text)


def _naming(replaced_by: Callable[Outputs, list[Path]]) -> Callable[Outputs, None]:
    def claim(*args: Outputs.args, **kwargs: Outputs.kwargs) -> None:
        replaced = replaced_by(*args, **kwargs)
        for path in replaced[:_NAMED]:
            typer.echo(f"{path}: replaced", err=True)
        if len(replaced) > _NAMED:
            typer.echo(f"and {len(replaced) - _NAMED} more", err=True)

    return claim


claim = _naming(replaced_by)
"""Refuses forbidden outputs, as ``replaced_by`` does, and names on stderr the files that the output replaces."""


def finish(problems: Iterable[str]) -> None:
    """Print the damaged and missing inputs on stderr, and exit with code 3 if there are any."""
    named = list(problems)
    for problem in named:
        typer.echo(problem, err=True)
    if named:
        raise typer.Exit(DAMAGED)


def read_options(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Parse ``key=value`` pairs. A value that is no JSON is read as text.

    >>> read_options(["samples=16", "split=2:8", "uniform=true"])
    {'samples': 16, 'split': '2:8', 'uniform': True}
    """
    options = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"write KEY=VALUE, not '{pair}'", param_hint="--option")
        try:
            options[key] = json.loads(value)
        except (ValueError, RecursionError):  # no JSON, or more digits or brackets than Python reads
            options[key] = value
    return options


def separated(values: Sequence[str]) -> list[str]:
    """The values between commas, without repeats."""
    return list(dict.fromkeys(part.strip() for value in values for part in value.split(",") if part.strip()))


def model_folder(folder: Path) -> Path:
    """The model folder inside a variant folder; ``folder`` itself if it is a model folder."""
    return folder / "model" if (folder / "model").is_dir() and not (folder / "config.json").exists() else folder


def variant_folder(model: Path) -> Path:
    """The variant folder that a model folder belongs to; ``model`` itself if it is one."""
    return model.parent if model.name == "model" else model


def variant_folders(places: Iterable[Path]) -> list[Path]:
    """Folders of variants: a place itself, or the variants directly below it or below its ``baselines``.

    Raises:
        PrunerError: if there are none.
    """
    found: list[Path] = []
    for place in places:
        if _is_variant(place):
            found.append(place)
            continue
        runs = place / "baselines"
        found += sorted(child for child in (runs if runs.is_dir() else place).iterdir() if _is_variant(child))
    if not found:
        raise PrunerError(f"no folder of a pruned model in {', '.join(map(str, places))}")
    return list(dict.fromkeys(found))


def _is_variant(folder: Path) -> bool:
    parts = ("pruning.json", "analysis", "evaluation", "config.json", "model")
    return any((folder / part).exists() for part in parts) and not (folder / "baselines").exists()

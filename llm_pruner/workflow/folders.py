"""The folders of a run's models, before the run goes on: is each of them whole?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from llm_pruner.models.headers import checkpoint_files
from llm_pruner.system.errors import CheckpointError, DataError, listed


def refuse_hollow(models: Iterable[Path], sources: Iterable[Path] = ()) -> None:
    """Raise DataError if a model folder that is there lacks files, which Snakemake does not see.

    Args:
        models: folders of models, made or not.
        sources: further folders that models link to. Links into a folder that is not there are no problem: the run
            makes the folder again.
    """
    models = list(models)
    to_make = [folder.absolute() for folder in (*models, *sources) if not folder.exists()]
    problems = [problem for model in models if model.is_dir() and (problem := _lacking(model, to_make))]
    if problems:
        way_out = "put the files back, or delete the folders and run again to make them anew"
        raise DataError(listed("models whose files are gone", problems, way_out))


def _lacking(model: Path, to_make: list[Path]) -> str | None:
    broken = [file for file in sorted(model.iterdir()) if file.is_symlink() and not file.exists()]
    targets = {file: file.resolve() for file in broken}
    for file, target in targets.items():
        if not any(target.is_relative_to(folder.resolve()) for folder in to_make):
            return f"{file}: a link to {target}, which is not there"
    if broken:
        return None
    if not (model / "config.json").exists():
        return f"{model}: has no config.json"
    try:
        checkpoint_files(model)
    except CheckpointError as error:
        return str(error)
    return None

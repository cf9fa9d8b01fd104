"""The classifier that is followed: of the hub, of a folder, or made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llm_pruner.builtin.training import BOS, EOS, PAD, train_tokenizer
from llm_pruner.encoders.architecture import builtin_encoder, check_encoder
from llm_pruner.encoders.folder import check_length, classifier_class
from llm_pruner.encoders.options import BUILTIN, TaskOptions, TeacherOptions
from llm_pruner.encoders.runs import TEACHER, Workplace
from llm_pruner.encoders.tasks import Batch, Task
from llm_pruner.encoders.training import Course, fit
from llm_pruner.errors import CheckpointError
from llm_pruner.models.architecture import check_finite
from llm_pruner.models.checkpoint import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def train_teacher(
    output: Path, task: TaskOptions, options: TeacherOptions, *, device: str = "auto", progress: bool = False
) -> dict[str, Any]:
    """Fine-tune a classifier on a task, or train the built-in one, and write model, record and curves to ``output``.

    Raises:
        CheckpointError: if the source cannot be read or is no supported classifier, or the training diverges.
        DataError: if the task cannot be read.
    """
    place = Workplace(output, task, options, device)
    if options.source == BUILTIN:
        tokenizer = _tokenizer(place.task, options, task.length)
        model = place.seeded(lambda: _new_classifier(place.task, tokenizer, options, task.length))
    else:
        tokenizer = load_tokenizer(options.source)
        model = place.seeded(lambda: _load(place.task, options, task.length))
    model.to(place.device)  # type: ignore[arg-type]
    train, validation = place.splits(output, "train", "validation", tokenizer=tokenizer)
    history = fit(
        TeacherCourse(model),
        train,
        validation,
        options,
        checkpoint=place.checkpoint,
        identity=place.identity(),
        name=TEACHER,
        progress=progress,
    )
    return place.finish(model, output, history, kind=TEACHER, name=TEACHER, extra={}, tokenizer=tokenizer)


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


def _load(task: Task, options: TeacherOptions, length: int) -> PreTrainedModel:
    """A model of the hub or of a folder, with a head for the task's classes, new where it has none for them."""
    from transformers import AutoConfig

    place = options.source
    try:
        config = AutoConfig.from_pretrained(place, revision=options.revision, **_classes(task))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{place}: neither a model folder nor to be had from the hub ({error})") from None
    encoder = check_encoder(config.to_dict(), place)
    if Path(place).is_dir():
        check_finite(place)
    check_length(encoder, length, place)
    return classifier_class(encoder).from_pretrained(
        place, config=config, revision=options.revision, dtype="float32", ignore_mismatched_sizes=True
    )


def _classes(task: Task) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(task.labels)),
        "label2id": {label: index for index, label in enumerate(task.labels)},
    }

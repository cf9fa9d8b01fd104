"""Classification tasks: examples in three splits, and their tokens."""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_pruner.data.rows import SUFFIXES, read_rows
from llm_pruner.encoders.options import BUILTIN, TaskOptions
from llm_pruner.system.errors import DataError, nearest
from llm_pruner.system.paths import file_exists

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SPLITS = ("train", "validation", "test")
GLUE: Mapping[str, tuple[str, ...]] = {
    "cola": ("sentence",),
    "mnli": ("premise", "hypothesis"),
    "mrpc": ("sentence1", "sentence2"),
    "qnli": ("question", "sentence"),
    "qqp": ("question1", "question2"),
    "rte": ("sentence1", "sentence2"),
    "sst2": ("sentence",),
    "wnli": ("sentence1", "sentence2"),
}
"""Columns of the texts of each GLUE task.

GLUE publishes no test labels, so its validation split is the test, and a tenth of its training split is the validation.
"""

AREAS = ("asyncio", "c", "email", "idlelib", "tkinter", "topics")
"""Classes of the built-in task: parts of CPython that the texts come from."""
_PIECE = range(8, 17)  # words
_PER_AREA = 1000
_MOST_CLASSES = 1_000
_HELD_OUT = 10  # a tenth of the examples for validation, another tenth for the test


class Example(NamedTuple):
    """One text or a pair of texts, and the number of its class."""

    text: str
    pair: str | None
    label: int


@dataclass(frozen=True)
class ClassificationTask:
    """Examples by split, and names of the classes in the order of their numbers."""

    name: str
    labels: tuple[str, ...]
    splits: Mapping[str, Sequence[Example]]


class Batch(NamedTuple):
    """Encoded examples, int64: labels [examples], the rest [examples, length]; segments are 1 in the second text."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    segments: torch.Tensor
    labels: torch.Tensor

    def inputs(self, model: PreTrainedModel) -> dict[str, torch.Tensor]:
        """Arguments of the model's forward pass; segments only for models with segment embeddings, such as BERT."""
        both = {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        segmented = getattr(model.config, "type_vocab_size", 1) > 1
        return {**both, "token_type_ids": self.segments} if segmented else both

    def rows(self, rows: Any, device: str) -> Batch:
        """Select examples by their numbers, and cut columns that hold only padding."""
        longest = int(self.attention_mask[rows].sum(1).max())
        return Batch(
            self.input_ids[rows, :longest].to(device),
            self.attention_mask[rows, :longest].to(device),
            self.segments[rows, :longest].to(device),
            self.labels[rows].to(device),
        )


def load_task(options: TaskOptions) -> ClassificationTask:
    """Read a task.

    Raises:
        DataError: if the name is unknown, a file or a column is missing, a file is malformed, or there are too few
            examples or classes.
    """
    if options.dataset == BUILTIN:
        task = _builtin(options.seed)
    elif options.dataset in GLUE:
        task = _glue(options)
    else:
        task = _files(options)
    train = task.splits["train"][: options.samples]
    if missing := set(range(len(task.labels))) - {example.label for example in train}:
        names = ", ".join(task.labels[label] for label in sorted(missing))
        raise DataError(f"{options.dataset}: no training example of class {names}; set more samples, or another seed")
    if len(task.labels) < 2:
        raise DataError(f"{options.dataset}: only one class, '{task.labels[0]}'; a task needs at least two")
    return ClassificationTask(task.name, task.labels, {**task.splits, "train": train})


def check_dataset(options: TaskOptions) -> None:
    """Check that the data set or its files exist, without reading them.

    Raises:
        DataError: if the name is unknown, a file is missing, or its suffix is not supported.
    """
    if options.dataset in (BUILTIN, *GLUE):
        if options.validation or options.test:
            raise DataError(f"{options.dataset} has its own splits; leave out validation and test")
        return
    for path in filter(None, (options.dataset, options.validation, options.test)):
        if not file_exists(path):
            hint = "; stsb is a regression, not a classification" if path == "stsb" else nearest(path, (BUILTIN, *GLUE))
            raise DataError(f"'{path}' is neither a file nor a known data set{hint}")
        if Path(path).suffix not in SUFFIXES:
            raise DataError(f"{path}: unknown suffix; name a .csv, .tsv or .jsonl file")


def encode(task: ClassificationTask, split: str, tokenizer: Any, length: int) -> Batch:
    """Encode a split as tokens, padded to its longest example.

    Args:
        length: largest number of tokens, including special ones; longer examples are truncated.
    """
    import torch

    examples = task.splits[split]
    pairs = [example.pair or "" for example in examples] if examples[0].pair is not None else None
    rows = tokenizer(
        [example.text for example in examples],
        pairs,
        truncation=True,
        max_length=length,
        padding=True,
        return_token_type_ids=True,
        return_tensors="pt",
    )
    labels = torch.tensor([example.label for example in examples])
    return Batch(rows["input_ids"], rows["attention_mask"], rows["token_type_ids"], labels)


def _split(examples: Sequence[Example], seed: int) -> dict[str, list[Example]]:
    """Split by a hash of each example's text, so that equal examples are in the same split."""
    splits: dict[str, list[Example]] = {split: [] for split in SPLITS}
    for example in examples:
        place = zlib.crc32(f"{seed}\0{example.text}\0{example.pair}".encode()) % _HELD_OUT
        splits[{0: "test", 1: "validation"}.get(place, "train")].append(example)
    return splits


def _shuffled(examples: list[Example], seed: int) -> list[Example]:
    return sorted(examples, key=lambda each: zlib.crc32(f"{seed}\0order\0{each.text}\0{each.pair}".encode()))


# --- built in ----------------------------------------------------------------------------------------------


@cache
def _builtin(seed: int) -> ClassificationTask:
    """Build the built-in task, which asks from which part of CPython a few words come. Takes some seconds.

    Each part gives the same number of examples.
    """
    from llm_pruner.data.builtin.corpus import load_corpus

    pieces: dict[str, list[str]] = defaultdict(list)
    for documents in load_corpus().values():
        for document in documents:
            area = document.name.partition("/")[0]
            if area in AREAS:
                pieces[area] += [piece for text in document.paragraphs for piece in _pieces(text, area)]
    examples = [
        Example(piece, None, label)
        for label, area in enumerate(AREAS)
        for piece in sorted(set(pieces[area]), key=lambda piece: zlib.crc32(piece.encode()))[:_PER_AREA]
    ]
    return ClassificationTask(BUILTIN, AREAS, _split(_shuffled(examples, seed), seed))


def _pieces(paragraph: str, area: str) -> Iterator[str]:
    """Cut a paragraph into pieces of a few words, without words that contain the name of the area."""
    words = [word for word in paragraph.split() if area == "c" or area not in word.lower()]
    for start in range(0, len(words), _PIECE[-1]):
        piece = words[start : start + _PIECE[-1]]
        if len(piece) in _PIECE:
            yield " ".join(piece)


# --- the hub -----------------------------------------------------------------------------------------------


def _glue(options: TaskOptions) -> ClassificationTask:
    from datasets import load_dataset

    name, seed = options.dataset, options.seed
    data = load_dataset("nyu-mll/glue", name)
    labels = tuple(data["train"].features["label"].names)

    def read(split: str) -> list[Example]:
        columns = [data[split][column] for column in GLUE[name]]
        pairs = columns[1] if len(columns) == 2 else [None] * len(data[split])
        return [Example(*row) for row in zip(columns[0], pairs, data[split]["label"], strict=True)]

    splits = _split(_shuffled(read("train"), seed), seed)
    test = read("validation_matched" if name == "mnli" else "validation")
    return ClassificationTask(
        name, labels, {"train": splits["train"] + splits["test"], "validation": splits["validation"], "test": test}
    )


# --- files -------------------------------------------------------------------------------------------------


def _files(options: TaskOptions) -> ClassificationTask:
    check_dataset(options)
    places = {"train": options.dataset, "validation": options.validation, "test": options.test}
    raw = {split: _read(Path(path), options) for split, path in places.items() if path}
    counts = Counter(label for rows in raw.values() for *_, label in rows)
    labels = tuple(sorted(counts, key=lambda label: (not re.fullmatch(r"-?\d+", label), _number(label), label)))
    if len(labels) > _MOST_CLASSES:
        raise DataError(
            f"{options.dataset}: {len(labels):,} classes, at most {_MOST_CLASSES:,} are told apart; is "
            f"'{options.label_column}' the column of the labels?"
        )
    number = {label: index for index, label in enumerate(labels)}
    given = {split: [Example(text, pair, number[label]) for text, pair, label in rows] for split, rows in raw.items()}
    shares = _split(_shuffled(given["train"], options.seed), options.seed)
    splits = {**shares, **{split: rows for split, rows in given.items() if split != "train"}}
    for split in ("validation", "test"):
        if split in given:
            splits["train"] = splits["train"] + shares[split]
        if not splits[split]:
            raise DataError(f"{options.dataset}: too few examples to hold out a {split} split; name a {split} file")
    return ClassificationTask(Path(options.dataset).stem, labels, splits)


def _number(label: str) -> int:
    return int(label) if re.fullmatch(r"-?\d+", label) else 0


def _read(path: Path, options: TaskOptions) -> list[tuple[str, str | None, str]]:
    """Read text, second text and label of each row."""
    pair = options.pair_column
    examples = [
        (row.text(options.text_column), row.text(pair) if pair else None, row.label(options.label_column))
        for row in read_rows(path)
    ]
    if not examples:
        raise DataError(f"{path}: no examples; name a file with at least one row")
    return examples

"""Two zero-shot tasks for lm-eval, made from the held-out text of the built-in corpus."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

from llm_pruner.builtin.corpus import Document, load_corpus
from llm_pruner.errors import DataError
from llm_pruner.files import staged_directory

CHOICES = 4

_CONTEXT_WORDS = range(8, 17)
_CONTINUATION_WORDS = 10
_SENTENCE_WORDS = range(8, 21)
_SENTENCE_OPENING = 2  # words given as the context of a sentence
_SWAPPED_LETTERS = 4

_SENTENCE_END = re.compile(r"(?<=[.!?]) (?=[A-Z])")
_SENTENCE = re.compile(r"[A-Z][A-Za-z,'’ -]*[.]")


@dataclass(frozen=True)
class Item:
    """One question; ``choices[label]`` is right, and ``fixed`` is the part that all choices share.

    A space goes between the fixed part and each choice, whichever comes first.
    """

    fixed: str
    choices: list[str]
    label: int


@dataclass(frozen=True)
class Task:
    """How a task's items are made, and which of their fields lm-eval takes as text and as target."""

    build: Callable[[Sequence[Document], random.Random], list[Item]]
    doc_to_text: str
    doc_to_target: str


def write_tasks(output: Path, *, items: int = 400, seed: int = 0) -> list[str]:
    """Write the tasks as a folder for lm-eval's ``TaskManager(include_path=...)`` and return their names.

    The task files name their data by absolute path, because lm-eval resolves a relative one against the
    working directory: a folder that was moved must be written anew.

    Raises:
        DataError: if the held-out text is too short for so many items.
    """
    import yaml

    documents = load_corpus()["test"]
    with staged_directory(output) as folder:
        for name, task in TASKS.items():
            questions = task.build(documents, random.Random(seed))
            if len(questions) < items:
                raise DataError(f"{name}: the held-out text yields {len(questions)} items, not {items}")
            lines = (json.dumps(asdict(question), ensure_ascii=False) for question in questions[:items])
            (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
            definition = _definition(name, task, output.resolve() / f"{name}.jsonl")
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(definition, sort_keys=False), encoding="utf-8")
    return list(TASKS)


def _definition(name: str, task: Task, data: Path) -> dict[str, object]:
    metrics = ("acc", "acc_norm")
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": task.doc_to_text,
        "doc_to_choice": "choices",
        "doc_to_target": task.doc_to_target,
        "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in metrics],
        "metadata": {"version": 1.0},
    }


def _continuations(documents: Sequence[Document], rng: random.Random) -> list[Item]:
    """Words from a paragraph, and four starts they might continue: their own, three of other documents.

    The starts are the choices, not the continuations: a small model's likelihood of a text says more about
    how common its words are than about what came before, and here the words scored are the same four times.
    """
    cuts = []
    for document in documents:
        for words in map(str.split, document.paragraphs):
            cut = min(len(words) - _CONTINUATION_WORDS, max(_CONTEXT_WORDS))
            if cut in _CONTEXT_WORDS:
                following = " ".join(words[cut : cut + _CONTINUATION_WORDS])
                cuts.append((document.name, " ".join(words[:cut]), following))
    rng.shuffle(cuts)
    questions = []
    for name, start, continuation in cuts:
        foreign = dict.fromkeys(other for source, other, _ in cuts if source != name and other != start)
        # acc_norm divides by the choice's length, so starts of other lengths would decide it
        nearest = sorted(foreign, key=lambda other: abs(len(other) - len(start)))[: CHOICES - 1]
        if len(nearest) == CHOICES - 1:
            questions.append(_item(continuation, start, nearest, rng))
    return questions


def _word_orders(documents: Sequence[Document], rng: random.Random) -> list[Item]:
    """A sentence, and three versions of it in each of which two longer words changed places."""
    questions = []
    for opening, words in _sentences(documents):
        places = [place for place, word in enumerate(words) if word.isalpha() and len(word) >= _SWAPPED_LETTERS]
        pairs = [pair for pair in combinations(places, 2) if len({words[place] for place in pair}) == 2]
        if len(pairs) >= CHOICES - 1:
            wrong = [_swapped(words, *pair) for pair in rng.sample(pairs, CHOICES - 1)]
            questions.append(_item(opening, " ".join(words), wrong, rng))
    rng.shuffle(questions)
    return questions


def _sentences(documents: Sequence[Document]) -> Iterator[tuple[str, list[str]]]:
    """Plain sentences of suitable length, each as its opening and its remaining words."""
    for document in documents:
        for paragraph in document.paragraphs:
            for sentence in _SENTENCE_END.split(paragraph):
                words = sentence.split()
                if len(words) in _SENTENCE_WORDS and _SENTENCE.fullmatch(sentence):
                    yield " ".join(words[:_SENTENCE_OPENING]), words[_SENTENCE_OPENING:]


def _swapped(words: Sequence[str], first: int, second: int) -> str:
    order = list(words)
    order[first], order[second] = words[second], words[first]
    return " ".join(order)


def _item(fixed: str, right: str, wrong: Sequence[str], rng: random.Random) -> Item:
    choices = [right, *wrong]
    rng.shuffle(choices)
    return Item(fixed, choices, choices.index(right))


TASKS = {
    # lm-eval takes the choices as contexts where the text is the number of the right one
    "builtin_continuation": Task(_continuations, doc_to_text="label", doc_to_target="fixed"),
    "builtin_word_order": Task(_word_orders, doc_to_text="fixed", doc_to_target="label"),
}

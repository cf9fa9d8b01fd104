"""Three zero-shot tasks for lm-eval, made from the held-out text of the built-in corpus."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from llm_pruner.builtin.corpus import Document, load_corpus
from llm_pruner.errors import DataError
from llm_pruner.files import staged_directory

CHOICES = 4

# Short, because time goes by tokens: an item of the first two costs four times its words, one of the last once.
_START_WORDS, _CONTINUATION_WORDS = 6, 4
_LENGTHS = 0.1  # by how much the wrong starts may be longer or shorter than the right one
_ORDERED_WORDS, _FOLLOWING_WORDS = 5, 3
_PASSAGE_WORDS = range(30, 61)

_SENTENCE_END = re.compile(r"(?<=[.!?]) (?=[A-Z])")
_LAST_OF_CLAUSE = re.compile(r".*[.!?;:][\"')]*")
_LAST_WORD = re.compile(r"([A-Za-z]{4,})[.!?;:]")


@dataclass(frozen=True)
class Item:
    """One question: which of ``choices`` came before ``fixed``; ``choices[label]`` is right.

    A space goes between them.
    """

    fixed: str
    choices: list[str]
    label: int


@dataclass(frozen=True)
class Passage:
    """A text and the word after it, a space between them."""

    text: str
    word: str


@dataclass(frozen=True)
class Task:
    """How a task's items are made, and what lm-eval does with their fields."""

    build: Callable[[Sequence[Document], random.Random], Sequence[Item | Passage]]
    definition: dict[str, str]
    metrics: dict[str, str]
    """Names of lm-eval's metrics, and how they are aggregated."""


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
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        **task.definition,
        "metric_list": [
            {"metric": metric, "aggregation": aggregation, "higher_is_better": metric != "perplexity"}
            for metric, aggregation in task.metrics.items()
        ],
        "metadata": {"version": 2.0},
    }


@dataclass(frozen=True)
class _Start:
    """Words of a paragraph, and the words after them."""

    paragraph: int
    place: int
    text: str
    following: str


def _continuations(documents: Sequence[Document], rng: random.Random) -> list[Item]:
    """A few words, and four starts they might continue: their own, three of the same document that end alike.

    The starts are the choices, not the continuations: a small model's likelihood of a text says more about
    how common its words are than about what came before, and here the words scored are the same four times.
    All starts share the last word, so it takes more than pairs of words to tell which is right.
    """
    questions = []
    for document in documents:
        alike: dict[str, list[_Start]] = defaultdict(list)
        for start in _starts(document):
            alike[_last(start)].append(start)
        for start in _starts(document):
            if start.place % (_START_WORDS + _CONTINUATION_WORDS) == 0 and _is_whole(start):
                others = [other for other in alike[_last(start)] if _may_stand_for(other, start)]
                others.sort(key=lambda other: (abs(other.paragraph - start.paragraph), abs(other.place - start.place)))
                nearest = list({other.text.lower(): other.text for other in reversed(others)}.values())[::-1]
                if len(nearest) >= CHOICES - 1:
                    questions.append(_item(start.following, start.text, nearest[: CHOICES - 1], rng))
    rng.shuffle(questions)
    return questions


def _starts(document: Document) -> Iterator[_Start]:
    for number, words in enumerate(map(str.split, document.paragraphs)):
        for place in range(len(words) - _START_WORDS + 1):
            end = place + _START_WORDS
            following = words[end : end + _CONTINUATION_WORDS]
            yield _Start(number, place, " ".join(words[place:end]), " ".join(following))


def _last(start: _Start) -> str:
    return start.text.rsplit(" ", 1)[-1].lower()


def _is_whole(start: _Start) -> bool:
    return len(start.following.split()) == _CONTINUATION_WORDS


def _may_stand_for(other: _Start, start: _Start) -> bool:
    """Elsewhere, other words, continued otherwise, of about the same length.

    acc_norm divides by the choice's length, so starts of other lengths would decide it.
    """
    apart = abs(other.place - start.place) >= _START_WORDS + _CONTINUATION_WORDS
    return (
        (other.paragraph != start.paragraph or apart)
        and other.text.lower() != start.text.lower()
        and other.following.lower() != start.following.lower()
        and abs(len(other.text) - len(start.text)) <= _LENGTHS * len(start.text)
    )


def _word_orders(documents: Sequence[Document], rng: random.Random) -> list[Item]:
    """Words of a sentence in four orders, three of them with the last in another's place, and the words after them.

    Scored are the words after them alone: how odd a wrong order is by itself, any model sees.
    """
    questions = []
    for words in _runs(documents, _ORDERED_WORDS + _FOLLOWING_WORDS):
        ordered, following = words[:_ORDERED_WORDS], words[_ORDERED_WORDS:]
        *earlier, last = ordered
        places = [place for place, word in enumerate(earlier) if word.isalpha() and word.lower() != last.lower()]
        if last.isalpha() and len(places) >= CHOICES - 1:
            wrong = [_swapped(ordered, place, len(earlier)) for place in rng.sample(places, CHOICES - 1)]
            questions.append(_item(" ".join(following), " ".join(ordered), wrong, rng))
    rng.shuffle(questions)
    return questions


def _runs(documents: Sequence[Document], length: int) -> Iterator[list[str]]:
    """Sentences cut into runs of so many words; what is left over is dropped."""
    for document in documents:
        for paragraph in document.paragraphs:
            for words in map(str.split, _SENTENCE_END.split(paragraph)):
                for place in range(0, len(words) - length + 1, length):
                    yield words[place : place + length]


def _swapped(words: Sequence[str], first: int, second: int) -> str:
    order = list(words)
    order[first], order[second] = words[second], words[first]
    return " ".join(order)


def _item(fixed: str, right: str, wrong: Sequence[str], rng: random.Random) -> Item:
    choices = [right, *wrong]
    rng.shuffle(choices)
    return Item(fixed, choices, choices.index(right))


def _last_words(documents: Sequence[Document], rng: random.Random) -> list[Passage]:
    """Passages of whole clauses without their last word, which stands earlier in the passage.

    As in LAMBADA, where that holds for most: such a word can be told from the passage, but not from the words just
    before it.
    """
    passages = []
    for document in documents:
        words = document.text.split()
        starts = [0, *(place + 1 for place, word in enumerate(words) if _LAST_OF_CLAUSE.fullmatch(word))]
        for end, word in enumerate(words):
            match = _LAST_WORD.fullmatch(word)
            start = max((place for place in starts if end + 1 - place in _PASSAGE_WORDS), default=None)
            if match and start is not None:
                text = " ".join(words[start:end])
                if match[1].lower() in re.findall(r"\w+", text.lower()):
                    passages.append(Passage(text, match[1]))
    rng.shuffle(passages)
    return list(dict.fromkeys(passages))


_CHOICE = {
    "output_type": "multiple_choice",
    # lm-eval takes the choices as contexts where the text is the number of the right one
    "doc_to_text": "label",
    "doc_to_choice": "choices",
    "doc_to_target": "fixed",
}
_WORD = {
    "output_type": "loglikelihood",
    "doc_to_text": "text",
    # the space is part of what is scored; lm-eval puts its own only in front of the answers of solved examples
    "doc_to_target": "{{' ' + word}}",
    "target_delimiter": "",
}
_ACCURACIES = {"acc": "mean", "acc_norm": "mean"}

TASKS = {
    "builtin_continuation": Task(_continuations, _CHOICE, _ACCURACIES),
    "builtin_word_order": Task(_word_orders, _CHOICE, _ACCURACIES),
    "builtin_last_word": Task(_last_words, _WORD, {"acc": "mean", "perplexity": "perplexity"}),
}

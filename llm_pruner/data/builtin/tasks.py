"""Three zero-shot tasks for lm-eval, made from the held-out text of the built-in corpus."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from llm_pruner.data.builtin.corpus import Document, load_corpus
from llm_pruner.data.builtin.task_files import Item, Passage, write_questions
from llm_pruner.system.errors import DataError
from llm_pruner.system.files import staged_directory

CHOICES = 4

# Short, because the time grows with the tokens. Choices of one token each share a single pass over their context.
_CONTEXT_WORDS = 12
_COMMON = 4  # documents
_PREPOSITIONS = ("as", "at", "by", "for", "from", "in", "of", "on", "to", "with")
_PASSAGE_WORDS = range(24, 61)  # a passage is the fewest whole clauses of such a length

_PLAIN_WORD = re.compile(r"[a-z]{4,}")
_LAST_OF_CLAUSE = re.compile(r".*[.!?;:][\"')]*")
_LAST_WORD = re.compile(r"([A-Za-z]{4,})[.!?;:]")


def write_tasks(output: Path, *, items: int = 400, seed: int = 0) -> list[str]:
    """Write the tasks as a folder and return their names. The folder can be copied and moved.

    Raises:
        DataError: if the held-out text is too short for ``items``.
    """
    documents = load_corpus()["test"]
    chosen: dict[str, Sequence[Item | Passage]] = {}
    for name, build in TASKS.items():
        questions = build(documents, random.Random(seed))
        if len(questions) < items:
            raise DataError(f"{name}: the held-out text yields {len(questions)} items, not {items}")
        chosen[name] = questions[:items]
    with staged_directory(output) as folder:
        write_questions(folder, chosen, seed=seed)
    return list(TASKS)


def _prepositions(documents: Sequence[Document], rng: random.Random) -> list[Item]:
    """Items whose right choice is a preposition, with three other prepositions as wrong choices.

    Every preposition is right equally often, so a preference for common prepositions gains nothing.
    """
    places: dict[str, list[str]] = {preposition: [] for preposition in _PREPOSITIONS}
    for document in documents:
        for context, word in _words_in_context(document):
            if word in places:
                places[word].append(context)
    for contexts in places.values():
        rng.shuffle(contexts)
    questions = []
    for same_rank in zip(*places.values(), strict=False):
        for right, context in zip(_PREPOSITIONS, same_rank, strict=True):
            others = [preposition for preposition in _PREPOSITIONS if preposition != right]
            questions.append(_item(context, right, rng.sample(others, CHOICES - 1), rng))
    return questions


def _content_words(documents: Sequence[Document], rng: random.Random) -> list[Item]:
    """Items whose right choice is a word, with three words from other items of the document as wrong choices.

    Right and wrong choices come from the same places, so the frequency of a word tells nothing. Rare words are left
    out: they would be several tokens long, which counts against a choice.
    """
    found_in = Counter(word for document in documents for word in set(document.text.split()))
    questions = []
    for document in documents:
        places = [
            (context, word)
            for context, word in _words_in_context(document)
            if _PLAIN_WORD.fullmatch(word) and found_in[word] >= _COMMON
        ]
        words = sorted({word for _, word in places})
        for context, right in places:
            seen = set(context.lower().split())
            others = [word for word in words if word != right and word not in seen]
            if right not in seen and len(others) >= CHOICES - 1:
                questions.append(_item(context, right, rng.sample(others, CHOICES - 1), rng))
    rng.shuffle(questions)
    return questions


def _words_in_context(document: Document) -> Iterator[tuple[str, str]]:
    """(context, word) for every word of a document with enough words of its paragraph before it."""
    for words in map(str.split, document.paragraphs):
        for place in range(_CONTEXT_WORDS, len(words)):
            yield " ".join(words[place - _CONTEXT_WORDS : place]), words[place]


def _item(text: str, right: str, wrong: Sequence[str], rng: random.Random) -> Item:
    choices = [right, *wrong]
    rng.shuffle(choices)
    return Item(text, choices, choices.index(right))


def _last_words(documents: Sequence[Document], rng: random.Random) -> list[Passage]:
    """Passages of whole clauses without their last word, which also occurs earlier in the passage.

    As in most passages of LAMBADA, the whole passage tells the last word, but the words just before it do not.
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


TASKS: dict[str, Callable[[Sequence[Document], random.Random], Sequence[Item | Passage]]] = {
    "builtin_preposition": _prepositions,
    "builtin_word": _content_words,
    "builtin_last_word": _last_words,
}
"""Functions that make the questions, by the task's name."""

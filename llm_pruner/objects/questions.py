"""Questions with answers for quick evaluations: six public data sets in one form, and a packaged sample of these."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from importlib import resources
from typing import Any, Literal, TypeVar
from urllib.request import Request, urlopen

from llm_pruner.system.errors import DataError, nearest

T = TypeVar("T")

PACKAGED = "packaged"
HUB = "hub"
_SAID = {HUB: "from data sets of the hub", PACKAGED: "from the packaged sample, because the hub is not reachable"}
SAMPLE = "questions.jsonl"
"""The packaged sample, written for this project. Each line has a ``task`` and an ``item`` in the data set's form."""


@dataclass(frozen=True)
class Benchmark:
    """A data set of the hub, with the form and the scoring of its items."""

    repo_id: str
    config: str | None
    split: str
    normalize: Callable[[Mapping[str, Any]], dict[str, Any]]
    """Converts a raw item to ``question``, ``answer`` and the task's other keys."""
    scoring: Literal["number", "choice", "match"]
    """Kind of the answer: the last generated number, the likeliest choice, or words within the generated text."""


def _gsm8k(item: Mapping[str, Any]) -> dict[str, Any]:
    working, mark, answer = item["answer"].rpartition("####")
    if not mark:
        raise ValueError("the answer has no number behind '####'")
    return {"question": item["question"], "answer": answer.strip(), "working": working.strip()}


def _labelled(question: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """The form of the Allen Institute's data sets, with ``question`` as the key of the question."""

    def normalize(item: Mapping[str, Any]) -> dict[str, Any]:
        choices = list(item["choices"]["text"])
        right = list(item["choices"]["label"]).index(item["answerKey"])
        return {"question": item[question], "answer": choices[right], "choices": choices}

    return normalize


def _sciq(item: Mapping[str, Any]) -> dict[str, Any]:
    choices = [item["correct_answer"], item["distractor1"], item["distractor2"], item["distractor3"]]
    return {"question": item["question"], "answer": choices[0], "choices": choices}


def _truthfulqa(item: Mapping[str, Any]) -> dict[str, Any]:
    choices = list(item["mc1_targets"]["choices"])
    right = list(item["mc1_targets"]["labels"]).index(1)
    return {"question": item["question"], "answer": choices[right], "choices": choices}


def _triviaqa(item: Mapping[str, Any]) -> dict[str, Any]:
    answer = item["answer"]
    return {"question": item["question"], "answer": answer["value"], "aliases": list(answer["aliases"])}


BENCHMARKS: Mapping[str, Benchmark] = {
    "gsm8k": Benchmark("openai/gsm8k", "main", "test", _gsm8k, "number"),
    "arc_easy": Benchmark("allenai/ai2_arc", "ARC-Easy", "test", _labelled("question"), "choice"),
    "sciq": Benchmark("allenai/sciq", None, "test", _sciq, "choice"),
    "truthfulqa": Benchmark("truthfulqa/truthful_qa", "multiple_choice", "validation", _truthfulqa, "choice"),
    "openbookqa": Benchmark("allenai/openbookqa", "main", "test", _labelled("question_stem"), "choice"),
    "triviaqa": Benchmark("mandarjoshi/trivia_qa", "rc.nocontext", "validation", _triviaqa, "match"),
}
"""Benchmarks by task."""


def load_eval_dataset(n: int, source: str | None = None, seed: int = 0) -> list[dict[str, Any]]:
    """Draw questions of all six tasks in turn, at random. A larger draw begins with the questions of a smaller draw.

    Args:
        n: number of questions. A source with fewer questions gives all; the packaged sample has eight for each task.
        source: ``hub`` or ``packaged``; by default the hub if it is reachable, else the packaged sample. A line on
            stderr names the source.
        seed: seed of the draw.

    Returns:
        Items with ``question``, ``answer``, ``task``, ``source`` and, depending on the task, ``choices`` (including the
        answer), ``aliases`` (of the answer) and ``working`` (the steps to the answer).

    Raises:
        DataError: for ``n`` below 1, an unknown source, or a data set that cannot be loaded or has another form.
    """
    if n < 1:
        raise DataError(f"n must be at least 1, not {n}")
    if source is None:
        source = HUB if is_reachable() else PACKAGED
        sys.stderr.write(f"questions: {_SAID[source]}\n")
    if source not in (HUB, PACKAGED):
        raise DataError(f"unknown source '{source}' of questions{nearest(source, (HUB, PACKAGED))}")
    sample = _packaged_sample() if source == PACKAGED else {}
    drawn = []
    for task, benchmark in BENCHMARKS.items():
        raw = (
            sample[task]
            if source == PACKAGED
            else load_dataset_from_hub(benchmark.repo_id, benchmark.split, config=benchmark.config)
        )
        few = safe_sample(raw, -(-n // len(BENCHMARKS)), seed)
        drawn.append([{**normalize_item(item, task), "source": source} for item in few])
    turns = max(map(len, drawn))
    return [items[turn] for turn in range(turns) for items in drawn if turn < len(items)][:n]


def normalize_item(item: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Convert an item of a data set to the common form of all tasks.

    Args:
        item: the item in its data set's form.
        task: ``gsm8k``, ``arc_easy``, ``sciq``, ``truthfulqa`` (multiple choice), ``openbookqa`` or ``triviaqa``.

    Returns:
        ``question``, ``answer``, ``task``, and ``choices``, ``aliases`` or ``working`` if the task has them.

    Raises:
        DataError: for an unknown task, a missing key, or an answer that is not a choice.
    """
    if task not in BENCHMARKS:
        raise DataError(f"no task '{task}'{nearest(task, BENCHMARKS)}")
    try:
        return {**BENCHMARKS[task].normalize(item), "task": task}
    except KeyError as error:
        raise DataError(f"{task}: an item has no {error}; its keys are {', '.join(map(repr, item))}") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{task}: an item does not have the data set's form ({error})") from None


def safe_sample(items: Sequence[T], n: int, seed: int = 0) -> list[T]:
    """Draw up to ``n`` items at random. A larger draw begins with the items of a smaller draw.

    Args:
        items: items to draw from.
        n: largest number of items.
        seed: seed of the draw.

    Raises:
        DataError: if ``n`` is negative.
    """
    if n < 0:
        raise DataError(f"cannot draw {n} items; n must be 0 or more")
    # larger draws of random.sample do not begin with smaller draws
    order = list(range(len(items)))
    random.Random(seed).shuffle(order)
    return [items[index] for index in order[:n]]


def load_dataset_from_hub(
    repo_id: str, split: str, *, config: str | None = None, revision: str | None = None
) -> list[dict[str, Any]]:
    """Load the rows of a data set of the hub. Keys without a value are dropped, so uploaded items return unchanged.

    Args:
        repo_id: name of the data set.
        split: split to load.
        config: configuration of the data set; by default the only one.
        revision: branch, tag or commit; by default the newest.

    Raises:
        DataError: if the data set cannot be loaded.
    """
    from datasets import load_dataset

    try:
        rows = load_dataset(repo_id, config, split=split, revision=revision)
    except (OSError, ValueError) as error:
        raise DataError(f"{repo_id} ({split}): cannot be loaded from the hub ({error})") from error
    return [{key: value for key, value in row.items() if value is not None} for row in rows]


def upload_dataset_to_hub(
    items: Sequence[Mapping[str, Any]],
    repo_id: str,
    *,
    split: str = "test",
    config: str = "default",
    private: bool = True,
    token: str | None = None,
) -> None:
    """Upload items to a data set of the hub. A missing data set is created; items of the same split are replaced.

    Args:
        items: items to upload, at least one. A key that an item lacks is left empty.
        repo_id: name of the data set.
        split: split of the items.
        config: configuration of the data set.
        private: whether a new data set is private.
        token: token of the hub; by default the token of the login.

    Raises:
        DataError: if there are no items.
    """
    from datasets import Dataset

    if not items:
        raise DataError(f"{repo_id}: no items to upload")
    keys = dict.fromkeys(key for item in items for key in item)
    data = Dataset.from_dict({key: [item.get(key) for item in items] for key in keys})
    data.push_to_hub(repo_id, config_name=config, split=split, private=private, token=token)


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids access to the hub, with the same values as in huggingface_hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def is_reachable(seconds: float = 5.0) -> bool:
    """Whether access to the hub is allowed and the hub answers within ``seconds``."""
    if is_offline():
        return False
    from huggingface_hub import constants

    answers: list[bool] = []

    def ask() -> None:
        question = Request(constants.ENDPOINT, method="HEAD")
        with suppress(OSError, HTTPException), urlopen(question, timeout=seconds):
            answers.append(True)

    # a name lookup has no timeout, so a hanging thread is abandoned
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answers)


def _packaged_sample() -> dict[str, list[dict[str, Any]]]:
    """Raw items of the packaged sample by task."""
    sample: dict[str, list[dict[str, Any]]] = {task: [] for task in BENCHMARKS}
    text = resources.files("llm_pruner.objects").joinpath(SAMPLE).read_text(encoding="utf-8")
    for line in map(json.loads, text.splitlines()):
        sample[line["task"]].append(line["item"])
    return sample

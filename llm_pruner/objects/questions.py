"""Questions with answers for quick evaluations: six public data sets in one form, and a packaged sample of the same."""

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
_SAID = {HUB: "from the hub's data sets", PACKAGED: "the packaged ones, because the hub is not reachable"}
SAMPLE = "questions.jsonl"
"""The packaged sample, written for this project: on each line a ``task`` and an ``item`` in its data set's form."""


@dataclass(frozen=True)
class Benchmark:
    """A data set of the hub and how its items are read and scored."""

    repo_id: str
    config: str | None
    split: str
    normalize: Callable[[Mapping[str, Any]], dict[str, Any]]
    """Raw item to ``question``, ``answer`` and what else it has."""
    scoring: Literal["number", "choice", "match"]
    """The last number generated, the likeliest of the choices, or words that the generation has in it."""


def _gsm8k(item: Mapping[str, Any]) -> dict[str, Any]:
    working, mark, answer = item["answer"].rpartition("####")
    if not mark:
        raise ValueError("the answer has no number behind '####'")
    return {"question": item["question"], "answer": answer.strip(), "working": working.strip()}


def _labelled(question: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """The form of the Allen Institute's data sets, whose key of the question differs."""

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
"""By task."""


def load_eval_dataset(n: int, source: str | None = None, seed: int = 0) -> list[dict[str, Any]]:
    """Questions of all six tasks in turn, drawn at random; fewer are the first of more.

    Args:
        n: how many; fewer where there are fewer, as in the packaged sample, which has eight of each task.
        source: ``hub`` or ``packaged``; by default the hub where it answers, and the packaged sample otherwise, which
            a line on stderr tells.
        seed: decides which.

    Returns:
        Items with ``question``, ``answer``, ``task``, ``source`` (where they came from) and, as the task has them,
        ``choices`` (the answer is one), ``aliases`` (of the answer) and ``working`` (towards it).

    Raises:
        DataError: for an ``n`` below 1, an unknown source, a data set that cannot be loaded or has another form.
    """
    if n < 1:
        raise DataError(f"n must be at least 1, not {n}")
    if source is None:
        source = HUB if is_reachable() else PACKAGED
        sys.stderr.write(f"questions: {_SAID[source]}\n")
    if source not in (HUB, PACKAGED):
        raise DataError(f"no source '{source}' of questions{nearest(source, (HUB, PACKAGED))}")
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
    """One item of a data set in the form that all share.

    Args:
        item: as its data set has it.
        task: ``gsm8k``, ``arc_easy``, ``sciq``, ``truthfulqa`` (its multiple choice), ``openbookqa`` or ``triviaqa``.

    Returns:
        ``question``, ``answer``, ``task``, and ``choices``, ``aliases`` or ``working`` where there are any.

    Raises:
        DataError: for an unknown task, a missing key, or an answer that is none of the choices.
    """
    if task not in BENCHMARKS:
        raise DataError(f"no task '{task}'{nearest(task, BENCHMARKS)}")
    try:
        return {**BENCHMARKS[task].normalize(item), "task": task}
    except KeyError as error:
        raise DataError(f"{task}: an item has no {error}; its keys are {', '.join(map(repr, item))}") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{task}: an item is not of the data set's form ({error})") from None


def safe_sample(items: Sequence[T], n: int, seed: int = 0) -> list[T]:
    """Up to ``n`` of the items in an order that the seed decides; fewer are the first of more.

    Raises:
        DataError: if ``n`` is negative.
    """
    if n < 0:
        raise DataError(f"cannot draw {n} items")
    # random.sample would not begin larger draws with the smaller ones
    order = list(range(len(items)))
    random.Random(seed).shuffle(order)
    return [items[index] for index in order[:n]]


def load_dataset_from_hub(
    repo_id: str, split: str, *, config: str | None = None, revision: str | None = None
) -> list[dict[str, Any]]:
    """Rows of a data set of the hub. Keys without a value are left out, so that uploaded items come back as they were.

    Raises:
        DataError: if it cannot be loaded.
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
    """Write items to a data set of the hub, which is made if there is none; those of the same split are replaced.

    Args:
        items: at least one; what some of them lack is left empty.
        token: of the hub; the one logged in with by default.

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
    """Whether HF_HUB_OFFLINE forbids the hub, by the hub's own reading of it."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def is_reachable(seconds: float = 5.0) -> bool:
    """Whether the hub may be asked and answers, with success, within so many seconds."""
    if is_offline():
        return False
    from huggingface_hub import constants

    answers: list[bool] = []

    def ask() -> None:
        question = Request(constants.ENDPOINT, method="HEAD")
        with suppress(OSError, HTTPException), urlopen(question, timeout=seconds):
            answers.append(True)

    # looking a name up knows no timeout, so the thread is left behind where it hangs
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answers)


def _packaged_sample() -> dict[str, list[dict[str, Any]]]:
    """Raw items by task."""
    sample: dict[str, list[dict[str, Any]]] = {task: [] for task in BENCHMARKS}
    text = resources.files("llm_pruner.objects").joinpath(SAMPLE).read_text(encoding="utf-8")
    for line in map(json.loads, text.splitlines()):
        sample[line["task"]].append(line["item"])
    return sample

"""A quick evaluation on six benchmarks, each with its own scoring. For a thorough evaluation use lm-eval."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from llm_pruner.evaluation.continuations import pad, pad_id
from llm_pruner.objects.generation import QuickEvaluator, format_prompt, mean_and_error
from llm_pruner.objects.questions import BENCHMARKS
from llm_pruner.system.errors import DataError, nearest

_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


class HolisticEvaluator(QuickEvaluator):
    """Share of right answers in each task, and the mean.

    GSM8K: an answer is right if the number behind the last ``####``, or else the last number, equals the reference's.
    Tasks with choices: the right choice must have the highest log-likelihood per byte after the question, without a
    tie. TriviaQA: the first line of the answer must contain the reference or an alias; case, articles and punctuation
    do not count.
    """

    def evaluate(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Answer every item.

        Returns:
            ``tasks``: for each task ``score``, ``stderr`` (None for a single item), ``items``, ``scoring``. ``mean``:
            ``score`` and ``stderr`` over tasks, taken as independent (None if a task has no ``stderr``). ``samples``:
            for each item ``task``, ``question``, ``reference``, ``prediction``, ``correct``.

        Raises:
            DataError: if there are no items, or for an unknown task.
        """
        unknown = sorted({item["task"] for item in items} - set(BENCHMARKS))
        if unknown or not items:
            raise DataError(f"no task '{unknown[0]}'{nearest(unknown[0], BENCHMARKS)}" if unknown else "no items")
        chosen = [BENCHMARKS[item["task"]].scoring == "choice" for item in items]
        choices = iter(self._choose([item for item, own in zip(items, chosen, strict=True) if own]))
        generated = iter(self.generations([item for item, own in zip(items, chosen, strict=True) if not own]))
        samples = [
            _sample(item, next(choices) if own else next(generated)) for item, own in zip(items, chosen, strict=True)
        ]
        tasks: dict[str, dict[str, Any]] = {}
        for task in dict.fromkeys(item["task"] for item in items):
            right = [float(sample["correct"]) for sample in samples if sample["task"] == task]
            score, error = mean_and_error(right)
            tasks[task] = {"score": score, "stderr": error, "items": len(right), "scoring": BENCHMARKS[task].scoring}
        errors = [result["stderr"] for result in tasks.values()]
        return {
            "tasks": tasks,
            "mean": {
                "score": sum(result["score"] for result in tasks.values()) / len(tasks),
                "stderr": None if None in errors else math.hypot(*errors) / len(tasks),
            },
            "samples": samples,
        }

    def _choose(self, items: Sequence[Mapping[str, Any]]) -> list[str]:
        """The likeliest choice of each item; empty if two choices are equally likely."""
        pairs = [(format_prompt(item), f" {choice}") for item in items for choice in item["choices"]]
        likelihoods = iter(self.log_likelihoods(pairs))
        picked = []
        for item in items:
            scores = [next(likelihoods) / max(1, len(choice.encode())) for choice in item["choices"]]
            best = max(scores)
            picked.append(item["choices"][scores.index(best)] if scores.count(best) == 1 else "")
        return picked

    def log_likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Log-likelihood of each continuation after its prompt, in nats.

        Args:
            pairs: prompts and continuations. Prompt and continuation are encoded together, and the tokens beyond the
                prompt's own number are scored. A pair longer than the model's context loses its beginning.
        """
        import torch

        longest = self.model.config.max_position_embeddings
        rows, lengths = [], []
        for prompt, continuation in pairs:
            known, whole = (
                self.tokenizer(text, verbose=False)["input_ids"] for text in (prompt, prompt + continuation)
            )
            row = whole[-longest:]
            rows.append(row)
            lengths.append(min(len(whole) - len(known), len(row) - 1))
        totals: list[float] = []
        for start in range(0, len(rows), self.batch_size):
            batch = slice(start, start + self.batch_size)
            ids, mask = (part.to(self.model.device) for part in pad(rows[batch], pad_id(self.tokenizer)))
            with torch.inference_mode():
                logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            for own, targets, row, length in zip(logits, ids, rows[batch], lengths[batch], strict=True):
                loss = torch.nn.functional.cross_entropy(own[:-1].float(), targets[1:], reduction="none")
                totals.append(-loss[len(row) - 1 - length : len(row) - 1].double().sum().item())
        return totals


def last_number(text: str) -> float | None:
    """The number behind the last ``####``, or else the last number in the text; None without a number.

    >>> last_number("6 * 200 = 1,200 coins.")
    1200.0
    """
    _, _, marked = text.rpartition("####")
    numbers = _NUMBER.findall(marked)[:1] if "####" in text else []
    numbers = numbers or _NUMBER.findall(text)
    return float(numbers[-1].replace(",", "")) if numbers else None


def normalise_answer(text: str) -> str:
    """An answer in lower case without punctuation, articles and repeated spaces, as in TriviaQA's own evaluation.

    >>> normalise_answer("The  River-Nile.")
    'river nile'
    """
    plain = "".join(" " if sign in string.punctuation else sign for sign in text.lower())
    return " ".join(_ARTICLES.sub(" ", plain).split())


def _sample(item: Mapping[str, Any], prediction: str) -> dict[str, Any]:
    return {
        "task": item["task"],
        "question": item["question"],
        "reference": item["answer"],
        "prediction": prediction,
        "correct": _is_correct(item, prediction),
    }


def _is_correct(item: Mapping[str, Any], prediction: str) -> bool:
    scoring = BENCHMARKS[item["task"]].scoring
    if scoring == "number":
        number = last_number(prediction)
        return number is not None and number == last_number(item["answer"])
    if scoring == "choice":
        return prediction == item["answer"]
    first_line, _, _ = prediction.partition("\n")
    said = f" {normalise_answer(first_line)} "
    answers = [normalise_answer(answer) for answer in (item["answer"], *item.get("aliases", ()))]
    return any(answer and f" {answer} " in said for answer in answers)

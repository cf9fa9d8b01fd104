"""Zero-shot accuracy, measured by lm-eval."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.data.builtin.task_files import DEFINITIONS, read_questions
from llm_pruner.evaluation.continuations import pad, pad_id
from llm_pruner.evaluation.records.zero_shot import MeanScores, TaskResults, TaskScores
from llm_pruner.system.errors import DataError

if TYPE_CHECKING:
    from lm_eval.api.task import Task
    from lm_eval.models.huggingface import HFLM
    from transformers import PreTrainedModel

_METRICS = ("acc", "acc_norm", "perplexity")

_SHORTEST = 15 / 16
"""Shortest length in a batch, as a share of the longest; padding fills the difference."""


def zero_shot(
    model: PreTrainedModel,
    tokenizer: Any,
    tasks: Sequence[str],
    *,
    task_folder: Path | None = None,
    num_fewshot: int = 0,
    limit: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> TaskResults:
    """Accuracy of a loaded model in each task, and the mean.

    Args:
        model: a loaded causal language model.
        tokenizer: the model's tokenizer.
        tasks: names of tasks, in lm-eval or made from the built-in text.
        task_folder: folder with the questions of the tasks made from the built-in text. If no other tasks are named,
            lm-eval's own tasks are not indexed, which saves time.
        num_fewshot: examples before each question.
        limit: largest number of questions in each task; all by default.
        batch_size: requests to run at once.
        seed: seed of the examples before questions and of lm-eval's random numbers.

    Raises:
        DataError: for an unknown task, a task without accuracy, or questions that are missing or were changed.
    """
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    own = {name: _own_task(task_folder, name) for name in tasks if name in DEFINITIONS} if task_folder else {}
    manager = TaskManager(include_defaults=not own.keys() >= set(tasks))
    unknown = sorted(set(tasks) - own.keys() - set(manager.all_tasks))
    if unknown:
        raise DataError(f"zero_shot.tasks: lm-eval has no task {', '.join(unknown)}")
    results = simple_evaluate(
        model=language_model(model, tokenizer, batch_size),
        tasks=[own.get(name, name) for name in tasks],
        num_fewshot=num_fewshot,
        limit=limit,
        task_manager=manager,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
        bootstrap_iters=1000,  # for perplexity's standard error; lm-eval's default of 100,000 takes a minute
        log_samples=False,
    )
    scores = {name: _task(results, name) for name in tasks}
    return TaskResults(tasks=scores, mean=_mean(list(scores.values())))


def _own_task(folder: Path, name: str) -> Task:
    """The task with the questions of a folder, as lm-eval runs it.

    Questions are handed over in memory: lm-eval would look for their file by a pattern, in which brackets of a folder's
    name have a meaning.
    """
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    questions = Dataset.from_list(read_questions(folder, name))

    class OwnTask(ConfigurableTask):  # type: ignore[misc]
        def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
            self.dataset = {"test": questions}

    return OwnTask(config=DEFINITIONS[name].config(name))


def language_model(model: PreTrainedModel, tokenizer: Any, batch_size: int) -> HFLM:
    """The model as lm-eval's class, without unnecessary work: no logits of the context, no repeated inputs.

    Requests that differ only in the last token share one forward pass, and rows of similar length share a batch. A
    model whose ``forward`` cannot skip logits gets lm-eval's own class.
    """
    import inspect

    import torch
    from lm_eval.models.huggingface import HFLM
    from tqdm import tqdm

    class ScoredPositions(HFLM):  # type: ignore[misc]
        def _loglikelihood_tokens(
            self,
            requests: list[tuple[tuple[str, str], list[int], list[int]]],
            disable_tqdm: bool = False,
            override_bs: int | None = None,
        ) -> list[tuple[float, bool]]:
            asked: dict[tuple[int, ...], list[int]] = defaultdict(list)
            for number, (_, context, continuation) in enumerate(requests):
                asked[tuple((context + continuation)[-(self.max_length + 1) : -1])].append(number)
            rows = list(asked)
            answers: dict[int, tuple[float, bool]] = {}
            with tqdm(total=len(requests), disable=disable_tqdm, desc="Running loglikelihood requests") as bar:
                for places in similar_lengths(list(map(len, rows)), override_bs or batch_size):
                    batch = [rows[place] for place in places]
                    wanted = [[(number, requests[number][2]) for number in asked[row]] for row in batch]
                    for found in self._score(batch, wanted):
                        answers |= found
                        bar.update(len(found))
            return [answers[number] for number in range(len(requests))]

        def _score(
            self, batch: Sequence[Sequence[int]], wanted: Sequence[Sequence[tuple[int, list[int]]]]
        ) -> Iterator[dict[int, tuple[float, bool]]]:
            """Log-likelihood of each continuation and whether it is greedy, by number; one row at a time."""
            # no mask, because later tokens do not change a prediction
            ids, _ = pad(batch, pad_id(tokenizer))
            scored = [max(len(continuation) for _, continuation in row) for row in wanted]
            kept = max(ids.shape[1] - len(row) + own for row, own in zip(batch, scored, strict=True))
            with torch.inference_mode():
                logits = self.model(ids.to(self.device), logits_to_keep=kept, use_cache=False).logits
                for place, (row, own) in enumerate(zip(batch, scored, strict=True)):
                    end = kept - (ids.shape[1] - len(row))
                    log_probs = logits[place, end - own : end].log_softmax(-1, self.softmax_dtype)
                    likeliest = log_probs.argmax(-1)
                    found = {}
                    for number, continuation in wanted[place]:
                        following = torch.tensor(continuation, device=log_probs.device)
                        chosen = log_probs[own - len(continuation) :].gather(1, following[:, None])
                        greedy = bool((likeliest[own - len(continuation) :] == following).all())
                        found[number] = (float(chosen.sum()), greedy)
                    yield found

    leaves_out = "logits_to_keep" in inspect.signature(model.forward).parameters
    return (ScoredPositions if leaves_out else HFLM)(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)


def similar_lengths(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Batches of rows with similar lengths, as indices of rows, longest first; at most ``batch_size`` rows in a batch.

    A pass over few tokens costs almost as much as a pass over a hundred, and padding costs as much as tokens.

    >>> similar_lengths([4, 16, 3, 15, 4], batch_size=2)
    [[1, 3], [0, 4], [2]]
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        last = batches[-1] if batches else []
        if last and len(last) < batch_size and lengths[place] >= _SHORTEST * lengths[last[0]]:
            last.append(place)
        else:
            batches.append([place])
    return batches


def _task(results: Mapping[str, Any], name: str) -> TaskScores:
    own = results["results"][name]
    metrics = {key: own.get(f"{key},none") for metric in _METRICS for key in (metric, f"{metric}_stderr")}
    return TaskScores(
        **{key: None if value == "N/A" else value for key, value in metrics.items()},
        items=results["n-samples"][name]["effective"],
        num_fewshot=results["n-shot"].get(name, 0),
    )


def _mean(scores: Sequence[TaskScores]) -> MeanScores:
    accuracies = [_told(score.acc) for score in scores]
    normalised = [_told(score.acc if score.acc_norm is None else score.acc_norm) for score in scores]
    errors = [_told(score.acc_stderr) for score in scores]
    count = len(scores)
    return MeanScores(
        acc=sum(accuracies) / count, acc_stderr=math.hypot(*errors) / count, acc_norm=sum(normalised) / count
    )


def _told(value: float | None) -> float:
    if value is None:
        raise DataError("zero_shot.tasks: a task without accuracy cannot be averaged")
    return value

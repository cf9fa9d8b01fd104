"""Zero-shot accuracy, through lm-eval itself."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.evaluation.records.zero_shot import MeanScores, TaskResults, TaskScores
from llm_pruner.system.errors import DataError

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM
    from transformers import PreTrainedModel

_METRICS = ("acc", "acc_norm", "perplexity")


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
    """Accuracies of a loaded model.

    Args:
        tasks: names of lm-eval tasks.
        task_folder: task files of our own. If they are all that is asked for, lm-eval's are not looked at: indexing
            them takes long.
        limit: items a task.

    Raises:
        DataError: for a task lm-eval does not know.
    """
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    own = {path.stem for path in task_folder.glob("*.yaml")} if task_folder else set()
    include = str(task_folder) if task_folder else None
    manager = TaskManager(include_path=include, include_defaults=not own.issuperset(tasks))
    unknown = sorted(set(tasks) - set(manager.all_tasks))
    if unknown:
        raise DataError(f"zero_shot.tasks: lm-eval has no task {', '.join(unknown)}")
    results = simple_evaluate(
        model=language_model(model, tokenizer, batch_size),
        tasks=list(tasks),
        num_fewshot=num_fewshot,
        limit=limit,
        task_manager=manager,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
        bootstrap_iters=1000,  # of perplexity's standard error; a hundred times as many by default take a minute
        log_samples=False,
    )
    scores = {name: _task(results, name) for name in tasks}
    return TaskResults(tasks=scores, mean=_mean(list(scores.values())))


def language_model(model: PreTrainedModel, tokenizer: Any, batch_size: int) -> HFLM:
    """The model as lm-eval runs it, but for logits that nobody asked for: those of the context and of padding.

    Requests of one length run together. Where a model cannot leave logits out, this is lm-eval's own class.
    """
    import inspect

    import torch
    from lm_eval.models.huggingface import HFLM
    from tqdm import tqdm

    class ScoredPositions(HFLM):  # type: ignore[misc]
        _scored = 0  # last positions whose logits are computed; 0 stands for all

        def _model_call(self, inps: torch.Tensor, attn_mask: Any = None, labels: Any = None) -> torch.Tensor:
            with torch.inference_mode():
                logits: torch.Tensor = self.model(inps, logits_to_keep=self._scored, use_cache=False).logits
            return logits

        def _loglikelihood_tokens(
            self,
            requests: list[tuple[tuple[str, str], list[int], list[int]]],
            disable_tqdm: bool = False,
            override_bs: int | None = None,
        ) -> list[tuple[float, bool]]:
            by_length: dict[int, list[int]] = defaultdict(list)
            for number, (_, context, continuation) in enumerate(requests):
                by_length[len(context) + len(continuation)].append(number)
            answers: dict[int, tuple[float, bool]] = {}
            with tqdm(total=len(requests), disable=disable_tqdm, desc="Running loglikelihood requests") as bar:
                for _, numbers in sorted(by_length.items(), reverse=True):
                    alike = [requests[number] for number in numbers]
                    self._scored = max(len(continuation) for _, _, continuation in alike)
                    scores = super()._loglikelihood_tokens(alike, disable_tqdm=True, override_bs=override_bs)
                    answers.update(zip(numbers, scores, strict=True))
                    bar.update(len(numbers))
            self._scored = 0
            return [answers[number] for number in range(len(requests))]

    leaves_out = "logits_to_keep" in inspect.signature(model.forward).parameters
    return (ScoredPositions if leaves_out else HFLM)(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)


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

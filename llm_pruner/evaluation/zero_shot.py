"""Zero-shot accuracy, through lm-eval itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
) -> dict[str, Any]:
    """Accuracies of a loaded model.

    Args:
        tasks: names of lm-eval tasks.
        task_folder: task files of our own. If they are all that is asked for, lm-eval's are not looked at: indexing
            them takes long.
        limit: items a task.

    Returns:
        ``tasks``: by name ``acc``, ``acc_stderr``, ``acc_norm``, ``acc_norm_stderr`` (None where a task has none),
        ``items``, ``num_fewshot``; and ``mean``: ``acc``, ``acc_stderr`` (tasks taken as independent), and
        ``acc_norm`` (``acc`` where there is no other).

    Raises:
        DataError: for a task lm-eval does not know.
    """
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    own = {path.stem for path in task_folder.glob("*.yaml")} if task_folder else set()
    include = str(task_folder) if task_folder else None
    manager = TaskManager(include_path=include, include_defaults=not own.issuperset(tasks))
    unknown = sorted(set(tasks) - set(manager.all_tasks))
    if unknown:
        raise DataError(f"zero_shot.tasks: lm-eval has no task {', '.join(unknown)}")
    results = simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
        tasks=list(tasks),
        num_fewshot=num_fewshot,
        limit=limit,
        task_manager=manager,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
        log_samples=False,
    )
    scores = {name: _task(results, name) for name in tasks}
    count = len(scores)
    return {
        "tasks": scores,
        "mean": {
            "acc": sum(score["acc"] for score in scores.values()) / count,
            "acc_stderr": math.hypot(*(score["acc_stderr"] for score in scores.values())) / count,
            "acc_norm": sum(_normalised(score) for score in scores.values()) / count,
        },
    }


def _task(results: dict[str, Any], name: str) -> dict[str, Any]:
    own = results["results"][name]
    metrics = {key: own.get(f"{key},none") for key in ("acc", "acc_stderr", "acc_norm", "acc_norm_stderr")}
    return {
        **metrics,
        "items": results["n-samples"][name]["effective"],
        "num_fewshot": results["n-shot"].get(name, 0),
    }


def _normalised(score: dict[str, Any]) -> float:
    return score["acc"] if score["acc_norm"] is None else score["acc_norm"]

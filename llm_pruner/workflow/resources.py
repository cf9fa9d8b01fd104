"""What a job asks for: memory, time, cores, GPUs, and the environment variables that all jobs share."""

from __future__ import annotations

from dataclasses import dataclass

from llm_pruner.system.device import visible_gpus

ENVIRONMENT = {
    # Idle OpenMP threads that spin make everything slower by an order when jobs share cores.
    "OMP_WAIT_POLICY": "PASSIVE",
    # glibc maps every large tensor anew and has the kernel clear it page by page, which takes a tenth of a job's time;
    # up to these sizes (one window's logits) it keeps and reuses what was freed.
    "MALLOC_MMAP_THRESHOLD_": str(2**27),
    "MALLOC_TRIM_THRESHOLD_": str(2**29),
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


@dataclass(frozen=True)
class Needs:
    """What a job that reads a model asks for; a further attempt asks for more memory and time.

    Attributes:
        memory_mb: main memory in MB.
        minutes: time it may take.
        threads: cores. Jobs on a small model are short: many side by side with one thread each beat few with many.
    """

    memory_mb: int
    minutes: int
    threads: int


PRUNING = {"builtin": Needs(2_000, 30, 1), "package": Needs(6_000, 60, 1), "other": Needs(32_000, 240, 8)}
CLASSIFIERS = {"builtin": Needs(2_000, 30, 1), "other": Needs(16_000, 480, 8)}


def uses_gpus(device: str, limit: int | None, cluster: bool) -> bool:
    """Whether jobs that can use a GPU ask for one, found without torch.

    On a cluster the profile's ``limit`` decides, because the machine that submits says nothing about those that
    compute; on one machine there has to be a GPU besides.

    Args:
        device: ``model.device`` of the configuration.
        limit: GPUs that the run may hold at once; None for no limit.
        cluster: whether jobs are submitted elsewhere.
    """
    if limit == 0:
        return False
    if device == "auto":
        return cluster or bool(visible_gpus())
    return device.startswith("cuda")

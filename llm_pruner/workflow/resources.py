"""Resources of a job: memory, time, cores and GPUs, and the environment variables shared by all jobs."""

from __future__ import annotations

from dataclasses import dataclass

from llm_pruner.system.device import visible_gpus

ENVIRONMENT = {
    # Spinning idle OpenMP threads make everything about ten times slower when jobs share cores.
    "OMP_WAIT_POLICY": "PASSIVE",
    # By default glibc maps every large tensor anew, and the kernel clears its pages: a tenth of a job's time. Up to
    # these sizes (one window's logits), glibc keeps and reuses freed memory.
    "MALLOC_MMAP_THRESHOLD_": str(2**27),
    "MALLOC_TRIM_THRESHOLD_": str(2**29),
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


@dataclass(frozen=True)
class Needs:
    """Resources of a job that reads a model. A further attempt requests more memory and time.

    Attributes:
        memory_mb: main memory in MB.
        minutes: time limit.
        threads: cores. Jobs on a small model are short, and many of them with one thread each, side by side, beat few
            with many threads.
    """

    memory_mb: int
    minutes: int
    threads: int


PRUNING = {"builtin": Needs(2_000, 30, 1), "package": Needs(6_000, 60, 1), "other": Needs(32_000, 240, 8)}
CLASSIFIERS = {"builtin": Needs(2_000, 30, 1), "other": Needs(16_000, 480, 8)}


def uses_gpus(device: str, limit: int | None, cluster: bool) -> bool:
    """Whether jobs that can use a GPU request one, found without torch.

    On a cluster the profile's ``limit`` alone decides, because the machine that submits jobs may differ from the nodes
    that run them. On one machine, that machine must also have a GPU.

    Args:
        device: ``model.device`` of the configuration.
        limit: GPUs that the run may hold at once; None for no limit.
        cluster: whether the run submits its jobs to a cluster.
    """
    if limit == 0:
        return False
    if device == "auto":
        return cluster or bool(visible_gpus())
    return device.startswith("cuda")

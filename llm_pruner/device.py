"""Which device a job runs on."""

from __future__ import annotations


def pick_device(request: str = "auto") -> str:
    """``auto`` is the GPU with the most free memory, else the CPU; anything else is taken as it is.

    Returns:
        A device string for torch: ``cpu``, ``cuda:1``, ``mps``.
    """
    if request != "auto":
        return request
    import torch

    if torch.cuda.is_available():
        free = [torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count())]
        return f"cuda:{free.index(max(free))}"
    return "cpu"


def release_freed_memory() -> None:
    """Hand what was freed back to the system.

    glibc keeps it in pieces that fit later tensors less and less, so that memory would grow with every layer.
    """
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def limit_threads(request: int | None = None) -> int:
    """Let torch use ``request`` threads, or those its job was given (OMP_NUM_THREADS); never more than there are cores.

    A run started with more cores than the machine has would otherwise make every job slower by an order.
    """
    import os

    import torch

    granted = request or int(os.environ.get("OMP_NUM_THREADS") or torch.get_num_threads())
    threads = max(1, min(granted, len(os.sched_getaffinity(0))))
    torch.set_num_threads(threads)
    return threads

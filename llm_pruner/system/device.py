"""Devices of a job: the choice of a device, claims of GPUs, threads, and the return of freed memory."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from llm_pruner.system.errors import PrunerError, shown

_WAIT_SECONDS = 1.0


def check_device(request: str) -> None:
    """Raise ValueError unless a device is ``auto``, ``cpu``, ``cuda``, ``cuda:<number>`` or ``mps``."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?|mps", request):
        known = ("auto", "cpu", "cuda", "cuda:1", "mps")
        raise ValueError(f"no device {shown(request)}; write {', '.join(known[:-1])} or {known[-1]}")


def pick_device(request: str = "auto") -> str:
    """Resolve a device. ``auto`` becomes the GPU with the most free memory, else the CPU; other requests stay.

    Returns:
        A device string for torch: ``cpu``, ``cuda:1``, ``mps``.

    Raises:
        PrunerError: for a text that names no device.
    """
    try:
        check_device(request)
    except ValueError as error:
        raise PrunerError(str(error)) from None
    if request != "auto":
        return request
    import torch

    if torch.cuda.is_available():
        free = [torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count())]
        return f"cuda:{free.index(max(free))}"
    return "cpu"


def release_freed_memory() -> None:
    """Return freed memory to the operating system.

    glibc would keep the memory in pieces that fit later tensors less and less, so that memory grew with every layer.
    """
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def visible_gpus() -> dict[str, str]:
    """GPUs that a new process would see, found without torch. Each MIG instance counts as one.

    Returns:
        Names for CUDA_VISIBLE_DEVICES, each with an identifier that is the same in every process of the machine: the
        GPUs in CUDA_VISIBLE_DEVICES in their order, else all GPUs that ``nvidia-smi`` lists.
    """
    listed = _nvidia_smi("-L")
    gpus = re.findall(r"^GPU \d+:.*\(UUID: (\S+)\)", listed, re.MULTILINE)
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is None:
        blocks = re.split(r"^(?=GPU )", listed, flags=re.MULTILINE)
        uuids = [re.findall(r"\(UUID: (\S+)\)", block) for block in blocks]
        return {uuid: uuid for block in uuids for uuid in block[1:] or block}
    everything = re.findall(r"\(UUID: (\S+)\)", listed)
    names: dict[str, str] = {}
    for name in map(str.strip, asked.split(",")):
        if name in ("", "-1"):  # CUDA ignores all later names
            break
        if name.isdigit():
            names[name] = gpus[int(name)] if int(name) < len(gpus) else name
        else:
            names[name] = next((uuid for uuid in everything if uuid.startswith(name)), name)
    return names


@contextmanager
def claimed_gpus(request: str, say: Callable[[str], object], count: int = 1) -> Iterator[None]:
    """Claim GPUs, so that no other job of this user on this machine takes them, and show torch only these GPUs.

    Uses ``flock``, so a claim ends with its process, however the process ends. Waits while all GPUs are taken. Inside a
    SLURM job, only the GPUs allocated to this job can be claimed.

    Args:
        request: ``auto`` or ``cuda`` for any GPUs, those with the most free memory first; ``cuda:1`` for the second.
        say: called with a message if the claim must wait.
        count: number of GPUs; all GPUs if the machine has fewer.

    Raises:
        RuntimeError: if torch is imported already, since torch may have read the list of devices.
    """
    if "torch" in sys.modules:
        raise RuntimeError("a GPU must be claimed before torch is imported")
    gpus = list(visible_gpus().items())
    number = request.partition(":")[2]
    if number:
        gpus = gpus[int(number) : int(number) + 1]
    if not gpus:  # torch will report it
        yield
        return
    memory = _nvidia_smi("--query-gpu=uuid,memory.free", "--format=csv,noheader,nounits")
    free = {uuid: int(size) for uuid, size in re.findall(r"^(\S+), (\d+)$", memory, re.MULTILINE)}
    gpus.sort(key=lambda gpu: free.get(gpu[1], 0), reverse=True)
    folder = Path(tempfile.gettempdir(), f"llm_pruner-gpus-{os.getuid()}", os.environ.get("SLURM_JOB_ID", ""))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    locks = {name: (folder / f"{uuid.replace('/', '-')}.lock").open("w") for name, uuid in gpus}
    count = min(count, len(locks))
    names = _lock(locks, count)
    if names is None:
        say(f"waiting for {count} of {len(locks)} GPUs: other jobs hold them (locks in {folder})")
        while (names := _lock(locks, count)) is None:
            time.sleep(_WAIT_SECONDS)
    if not number:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)
    try:
        yield
    finally:
        for lock in locks.values():
            lock.close()


def _lock(locks: Mapping[str, IO[str]], count: int) -> list[str] | None:
    """Lock the first ``count`` free files; if there are fewer, lock none and return None."""
    held: list[str] = []
    for name, file in locks.items():
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        held.append(name)
        if len(held) == count:
            return held
    for name in held:
        fcntl.flock(locks[name], fcntl.LOCK_UN)
    return None


def _nvidia_smi(*arguments: str) -> str:
    """The output of ``nvidia-smi``; empty without the program or a driver."""
    if shutil.which("nvidia-smi") is None:
        return ""
    return subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, check=False).stdout


def limit_threads(request: int | None = None) -> int:
    """Let torch use ``request`` threads, by default the job's own (OMP_NUM_THREADS), at most one for each core.

    Without the limit, a run started with more cores than the machine has would make every job about ten times slower.
    """
    import torch

    granted = request or int(os.environ.get("OMP_NUM_THREADS") or torch.get_num_threads())
    threads = max(1, min(granted, len(os.sched_getaffinity(0))))
    torch.set_num_threads(threads)
    return threads

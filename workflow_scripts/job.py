"""The frame of every script around its one library call: log to a file, claim GPUs, and fail with one clear message."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from llm_pruner.system.device import claimed_gpus
from llm_pruner.system.errors import PrunerError
from llm_pruner.workflow.locks import job_at_work


@contextmanager
def job(snakemake: Any, *, device: str = "auto") -> Iterator[None]:
    """Send all output to the job's log. A ``PrunerError`` ends the job with its message alone.

    A job whose rule requests GPUs gets its own GPUs; every other job sees none.

    Args:
        snakemake: Snakemake's object in every script.
        device: the job's device, as in the configuration.
    """
    # importing torch and transformers makes many objects and no garbage; collections would take a sixth of the time
    gc.set_threshold(10_000, 10, 10)
    with Path(snakemake.log[0]).open("w", encoding="utf-8", buffering=1) as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
        try:
            with job_at_work(), _gpu(snakemake, device, lambda line: log.write(f"{line}\n")):
                yield
        except PrunerError as error:
            log.write(f"{error}\n")
            raise SystemExit(1) from None


def _gpu(snakemake: Any, device: str, say: Callable[[str], object]) -> AbstractContextManager[None]:
    if count := snakemake.resources.get("gpu"):
        return claimed_gpus(device, say, count)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return nullcontext()

"""Time and memory of a model, measured in a process of its own."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llm_pruner.evaluation.records.efficiency import BatchTimes, EfficiencyResult
from llm_pruner.models.check import check_folder
from llm_pruner.models.checkpoint import check_loaded, load, model_class
from llm_pruner.models.headers import bytes_on_disk
from llm_pruner.system.device import limit_threads, pick_device
from llm_pruner.system.provenance import Run

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

T = TypeVar("T")

WARM_UP_SECONDS = 1.5

ROOM = 1.5
"""Free memory of a GPU that a second model needs, as a multiple of the size of its weights."""


def measure_efficiency(
    folder: Path,
    output: Path,
    *,
    name: str,
    prompt_length: int = 128,
    new_tokens: int = 32,
    batch_sizes: Sequence[int] = (1, 4, 8),
    repeats: int = 5,
    threads: int | None = None,
    device: str = "auto",
    spread: bool = False,
    base: Path | None = None,
) -> EfficiencyResult:
    """Measure load time, prefill and decode latency, throughput and peak memory, and write them as JSON.

    Prefill is one forward pass over the prompt. Decoding then feeds one token at a time, with the cache. After a
    warm-up the fastest of ``repeats`` counts, because other work on the machine only slows a run down. Peak memory is
    the growth of the process by loading and running: of the allocator's peak on a GPU, of the resident set on a CPU.
    The resident set includes touched pages of memory-mapped checkpoints.

    Args:
        folder: model folder.
        output: the JSON to write.
        name: name of the model in tables.
        prompt_length: tokens of each prompt.
        new_tokens: tokens to decode after each prompt.
        batch_sizes: numbers of prompts at once, for one measurement each.
        repeats: timed runs of each measurement.
        threads: torch threads on a CPU; by default all cores of the job.
        device: device of the model.
        spread: spread the model over all GPUs; the memory is then their sum.
        base: folder of a second model to time in turn with the model, batch by batch, so that a slow phase of the
            machine slows both and their ratio holds. Without room for both on the GPU, only the model is timed.
    """
    import torch

    # the model's code is imported before the clock starts and memory is counted
    model_class(check_folder(folder).config)
    device = pick_device(device)
    threads = limit_threads(threads)
    run = Run({"prompt_length": prompt_length, "new_tokens": new_tokens, "repeats": repeats}, device=device)
    memory = _PeakMemory(device, spread)
    started = time.perf_counter()
    model = load(folder, device=device, device_map="auto" if spread else None, check=False)
    device = str(model.device)
    _synchronize(device)
    load_seconds = time.perf_counter() - started
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.config.vocab_size
    prompts = [
        torch.randint(0, vocabulary, (size, prompt_length), generator=generator).to(device) for size in batch_sizes
    ]
    _warm_up(model, prompts, new_tokens)
    peak = memory.peak()
    # only now, since it reads weights that stay on disk while a model runs
    check_loaded(model, folder)
    timed_models = [model]
    if base and _has_room(base, model.device):
        timed_models.append(load(base, device=device, device_map="auto" if spread else None))
        _warm_up(timed_models[-1], prompts, new_tokens)
    batches, *others = _measure(timed_models, prompts, new_tokens, repeats)
    result = EfficiencyResult(
        model=name,
        load_seconds=load_seconds,
        bytes_on_disk=bytes_on_disk(folder),
        peak_memory_bytes=peak,
        device=device,
        threads=threads,
        prompt_length=prompt_length,
        new_tokens=new_tokens,
        batches=tuple(batches),
        base_batches=tuple(others[0]) if others else (),
        run=run.describe(),
    )
    result.write(output)
    return result


def _has_room(folder: Path, device: torch.device) -> bool:
    """Whether a second model fits on the device. On a CPU the job has requested the memory for both."""
    import torch

    return device.type != "cuda" or torch.cuda.mem_get_info(device)[0] > ROOM * bytes_on_disk(folder)


def _warm_up(model: PreTrainedModel, prompts: Sequence[torch.Tensor], new_tokens: int) -> None:
    """Run the largest batch, which needs most memory, then repeat the first batch until the model runs at full speed.

    The first second of a process is slower than the rest, by a quarter for a small model.
    """
    until = time.perf_counter() + WARM_UP_SECONDS
    largest = max(prompts, key=len)
    _decode(model, *_prefill(model, largest), new_tokens)
    while time.perf_counter() < until:
        _decode(model, *_prefill(model, prompts[0]), new_tokens)


def _measure(
    models: Sequence[PreTrainedModel], prompts: Sequence[torch.Tensor], new_tokens: int, repeats: int
) -> list[list[BatchTimes]]:
    """Times of each model at every batch size: models in turn, token by token, so that a disturbance hits all alike."""
    prefill: dict[tuple[int, int], list[float]] = defaultdict(list)
    decode: dict[tuple[int, int], list[float]] = defaultdict(list)
    for _ in range(repeats):
        for size, prompt in enumerate(prompts):
            device = str(prompt.device)
            states = []
            for number, model in enumerate(models):
                seconds, state = timed(device, partial(_prefill, model, prompt))
                prefill[number, size].append(seconds)
                states.append(state)
            decoding = [0.0] * len(models)
            for _ in range(new_tokens):
                for number, model in enumerate(models):
                    token, cache = states[number]
                    seconds, token = timed(device, partial(_next, model, token, cache))
                    decoding[number] += seconds
                    states[number] = token, cache
            for number, seconds in enumerate(decoding):
                decode[number, size].append(seconds / new_tokens)
    return [
        [_times(prompt, prefill[number, size], decode[number, size]) for size, prompt in enumerate(prompts)]
        for number in range(len(models))
    ]


def _times(prompt: torch.Tensor, prefill: Sequence[float], decode: Sequence[float]) -> BatchTimes:
    return BatchTimes(
        batch_size=len(prompt),
        prefill_seconds=min(prefill),
        prefill_seconds_median=statistics.median(prefill),
        prefill_tokens_per_second=prompt.numel() / min(prefill),
        decode_seconds_per_token=min(decode),
        decode_seconds_per_token_median=statistics.median(decode),
        decode_tokens_per_second=len(prompt) / min(decode),
    )


def _prefill(model: PreTrainedModel, prompt: torch.Tensor) -> tuple[torch.Tensor, Any]:
    import torch

    with torch.inference_mode():
        output = model(input_ids=prompt, use_cache=True, logits_to_keep=1)
    return output.logits[:, -1:].argmax(-1), output.past_key_values


def _next(model: PreTrainedModel, token: torch.Tensor, cache: Any) -> torch.Tensor:
    import torch

    with torch.inference_mode():
        output = model(input_ids=token, past_key_values=cache, use_cache=True)
        return output.logits[:, -1:].argmax(-1)


def _decode(model: PreTrainedModel, token: torch.Tensor, cache: Any, new_tokens: int) -> None:
    for _ in range(new_tokens):
        token = _next(model, token, cache)


def timed(device: str, work: Callable[[], T]) -> tuple[float, T]:
    """Wall seconds of ``work``, including the work that it starts on a GPU, and its result."""
    _synchronize(device)
    started = time.perf_counter()
    result = work()
    _synchronize(device)
    return time.perf_counter() - started, result


def _synchronize(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


class _PeakMemory:
    """Peak memory since construction, minus the memory in use at construction."""

    def __init__(self, device: str, spread: bool = False) -> None:
        import torch

        self._gpus = [device] if device.startswith("cuda") else []
        if spread:
            self._gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        if self._gpus:
            for gpu in self._gpus:
                torch.cuda.reset_peak_memory_stats(gpu)
            self._before = sum(map(torch.cuda.memory_allocated, self._gpus))
        else:
            # "5" resets the high-water mark of resident memory to the current value
            Path("/proc/self/clear_refs").write_text("5")
            self._before = _resident("VmRSS")

    def peak(self) -> int:
        """Peak memory in bytes."""
        import torch

        if self._gpus:
            return sum(map(torch.cuda.max_memory_allocated, self._gpus)) - self._before
        return _resident("VmHWM") - self._before


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")

"""What sharing saves: layer importance and gradients in one pass, against one pass for each layer.

    python benchmarks/scoring.py --layers 12 --hidden 512

Builds a Llama of the given shape with random weights and runs every way of computing the same numbers in a process of
its own. Memory is the largest resident size (on a GPU, allocated memory) above that of the loaded packages. Results
are checked to be equal before anything is reported.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from tabulate import tabulate
from transformers import LlamaConfig, LlamaForCausalLM

from llm_pruner.data.tokens import read_tokens, write_tokens
from llm_pruner.mechanisms.width.units import cut_along, sum_over_channels, sum_over_key_value_groups
from llm_pruner.methods.ablation import Ablation
from llm_pruner.methods.gqa import GQA
from llm_pruner.models.architecture import LINEARS, read_architecture
from llm_pruner.models.checkpoint import load
from llm_pruner.scoring.evidence import Evidence, gather
from llm_pruner.scoring.stream import LayerStream
from llm_pruner.system.runtime import Runtime

Job = Callable[[Path, torch.Tensor, argparse.Namespace], list[list[float]]]


def removal_shared(base: Path, ids: torch.Tensor, options: argparse.Namespace) -> list[list[float]]:
    """Layer importance by removal, hidden states in front of the bypassed layer reused."""
    stream = LayerStream(base, ids, Runtime(options.device, options.batch))
    return [Ablation().layer_scores(stream)]


def removal_naive(base: Path, ids: torch.Tensor, options: argparse.Namespace) -> list[list[float]]:
    """The whole model once, and once more for each layer without it."""
    model = load(base, device=options.device)

    def loss() -> float:
        total = 0.0
        with torch.inference_mode():
            for batch in ids.to(options.device).split(options.batch):
                total += model(input_ids=batch, labels=batch, use_cache=False).loss.item() * len(batch)
        return total / len(ids)

    whole, scores = loss(), []
    for layer in model.model.layers:
        forward, layer.forward = layer.forward, lambda hidden_states, **_: hidden_states
        scores.append(loss() - whole)
        layer.forward = forward
    return [scores]


def gradients_streamed(base: Path, ids: torch.Tensor, options: argparse.Namespace) -> list[list[float]]:
    """Taylor importance of groups, one pass for all layers, one layer's gradients at a time."""
    return _gathered(base, ids, options, checkpointing=True)


def gradients_kept(base: Path, ids: torch.Tensor, options: argparse.Namespace) -> list[list[float]]:
    """The same without gradient checkpointing: all activations are held."""
    return _gathered(base, ids, options, checkpointing=False)


def gradients_whole(base: Path, ids: torch.Tensor, options: argparse.Namespace) -> list[list[float]]:
    """One backward pass of the whole model, with a copy of all its gradients."""
    model = load(base, device=options.device)
    _backward(model, ids, options)
    return [_reduced(base, model, index) for index in range(len(model.model.layers))]


def gradients_each(base: Path, ids: torch.Tensor, options: argparse.Namespace) -> list[list[float]]:
    """One backward pass of the whole model for each layer."""
    model = load(base, device=options.device)
    scores = []
    for index in range(len(model.model.layers)):
        model.zero_grad()
        _backward(model, ids, options)
        scores.append(_reduced(base, model, index))
    return scores


def _gathered(base: Path, ids: torch.Tensor, options: argparse.Namespace, checkpointing: bool) -> list[list[float]]:
    shapes, scores = read_architecture(base).layers, {}
    for layer in gather("gradient", base, ids, Runtime(options.device, options.batch), checkpointing=checkpointing):
        sums = {own.linear: GQA().summed(weight, own, cut_along(own.linear)) for weight, own in layer.linears()}
        scores[layer.index] = _summed(sums, shapes[layer.index].key_value_groups)
    return [scores[index] for index in sorted(scores)]


def _backward(model: Any, ids: torch.Tensor, options: argparse.Namespace) -> None:
    for batch in ids.to(options.device).split(options.batch):
        (model(input_ids=batch, labels=batch, use_cache=False).loss * len(batch) / len(ids)).backward()


def _reduced(base: Path, model: Any, index: int) -> list[float]:
    sums = {}
    for name in LINEARS:
        weight = model.model.layers[index].get_submodule(name).weight
        sums[name] = GQA().summed(weight.detach(), Evidence(index, name, gradient=weight.grad), cut_along(name))
    return _summed(sums, read_architecture(base).layers[index].key_value_groups)


def _summed(saliencies: dict[str, torch.Tensor], groups: int) -> list[float]:
    return torch.cat([sum_over_key_value_groups(saliencies, groups), sum_over_channels(saliencies)]).tolist()


GROUPS: dict[str, tuple[Job, ...]] = {
    "layer importance by removal": (removal_shared, removal_naive),
    "Taylor importance": (gradients_streamed, gradients_kept, gradients_whole, gradients_each),
}
JOBS = {job.__name__: job for jobs in GROUPS.values() for job in jobs}


def build(folder: Path, options: argparse.Namespace) -> None:
    """A model of the asked shape, and tokens to score it on."""
    config = LlamaConfig(
        vocab_size=options.vocabulary,
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // 64,
        num_key_value_heads=options.hidden // 128,
        intermediate_size=3 * options.hidden,
        dtype="float32",
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    write_tokens(
        folder / "tokens.safetensors", torch.randint(options.vocabulary, (options.samples, options.length)), {}
    )


def measure(job: Job, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds, memory and results of one way, in this process."""
    ids = read_tokens(folder / "tokens.safetensors")
    cuda = options.device.startswith("cuda")
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    scores = job(folder, ids, options)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    peak = torch.cuda.max_memory_allocated() if cuda else after - before
    return {"seconds": seconds, "peak_bytes": peak, "scores": scores}


def run(folder: Path, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Every way in a process of its own, the fastest of ``repeats``."""
    results: dict[str, dict[str, Any]] = {}
    for _ in range(options.repeats):
        for name in JOBS:
            command = [sys.executable, __file__, "--job", name, "--folder", str(folder), *sys.argv[1:]]
            one = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            best = results.get(name)
            if best is None or one["seconds"] < best["seconds"]:
                results[name] = one
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {
        "layers": 8,
        "hidden": 256,
        "vocabulary": 2048,
        "samples": 32,
        "length": 128,
        "batch": 8,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, help="also write the numbers as JSON")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        sys.stdout.write(json.dumps(measure(JOBS[options.job], options.folder, options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), options)
        results = run(Path(folder), options)
    rows = []
    for group, jobs in GROUPS.items():
        first = results[jobs[0].__name__]
        for job in jobs:
            own = results[job.__name__]
            torch.testing.assert_close(torch.tensor(own["scores"]), torch.tensor(first["scores"]), rtol=1e-3, atol=1e-5)
            memory = own["peak_bytes"] / 2**20
            rows.append(
                [
                    group,
                    job.__doc__,
                    own["seconds"],
                    own["seconds"] / first["seconds"],
                    memory,
                    own["peak_bytes"] / first["peak_bytes"],
                ]
            )
    headings = ["what", "how", "s", "time ratio", "MiB", "memory ratio"]
    sys.stdout.write(tabulate(rows, headings, "pipe", floatfmt=("", "", ".2f", ".2f", ".0f", ".2f")) + "\n")
    if options.output:
        numbers = {name: {key: own[key] for key in ("seconds", "peak_bytes")} for name, own in results.items()}
        options.output.write_text(
            json.dumps({"shape": vars(options) | {"output": None}, "ways": numbers}, indent=2, default=str)
        )


if __name__ == "__main__":
    main()

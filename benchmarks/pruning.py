"""What each method takes: seconds and peak memory of scoring and of pruning, on a model of any shape.

    python benchmarks/pruning.py --layers 4 8 16
    python benchmarks/pruning.py --shape 82m --samples 32 --length 512 --variants SparseGPT_2of4 OBS_2000=least_squares
    python benchmarks/pruning.py --shape llama3-8b --device cuda --samples 128 --length 2048 --output 8b.json

Builds a Llama with random weights, layer by layer, so that a model larger than memory can be tried, and runs every
method in a process of its own; ``=`` and the name of a repair behind a variant repairs it. Beside seconds stand forward
passes: the same time in units of one pass of the layers over the tokens. Main memory is the largest resident size above
that of the loaded packages, pages of the memory-mapped checkpoint included; on a GPU its allocated memory stands
beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from llm_pruner.data.tokens import read_tokens, write_tokens
from llm_pruner.models.architecture import planned_architecture
from llm_pruner.models.checkpoint import CheckpointWriter, model_class, write_config
from llm_pruner.scoring.stream import LayerStream, StreamedLayer
from llm_pruner.system.runtime import Runtime
from llm_pruner.variants.grammar import resolve
from llm_pruner.variants.make import prune
from llm_pruner.variants.score import compute_scores

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"hidden": 512, "heads": 8, "groups": 4, "channels": 1536, "vocabulary": 1024, "layers": 4},
    "small": {"hidden": 1024, "heads": 16, "groups": 8, "channels": 3072, "vocabulary": 4096, "layers": 8},
    "82m": {"hidden": 768, "heads": 12, "groups": 4, "channels": 2048, "vocabulary": 4096, "layers": 12},
    "llama3-1b": {"hidden": 2048, "heads": 32, "groups": 8, "channels": 8192, "vocabulary": 128256, "layers": 16},
    "llama3-8b": {"hidden": 4096, "heads": 32, "groups": 8, "channels": 14336, "vocabulary": 128256, "layers": 32},
    "llama3-70b": {"hidden": 8192, "heads": 64, "groups": 8, "channels": 28672, "vocabulary": 128256, "layers": 80},
}
PASS = "Pass"
"""Not a method: one pass of all layers over the tokens, the unit of time."""
HESSIANS = "Hessians"
"""Not a method: X·Xᵀ of every linear layer's inputs, what second-order methods such as SparseGPT start from."""
VARIANTS = (
    "Magnitude_2of4",
    "Wanda_unstructured_5000",
    HESSIANS,
    "ShortGPT_remove_2",
    "Ablation_remove_2",
    "GQA_2000",
    "SliceGPT_2500",
)
INPUTS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")
"""One of the linear layers that share an input."""


def build(folder: Path, layers: int, options: argparse.Namespace) -> None:
    """A model of the asked shape, tensor by tensor, and tokens to calibrate on."""
    shape = SHAPES[options.shape]
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": shape["vocabulary"],
        "hidden_size": shape["hidden"],
        "num_hidden_layers": layers,
        "num_attention_heads": shape["heads"],
        "num_key_value_heads": shape["groups"],
        "head_dim": shape["hidden"] // shape["heads"],
        "intermediate_size": shape["channels"],
        "max_position_embeddings": options.length,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "dtype": options.dtype,
    }
    dtype = getattr(torch, options.dtype)
    generator = torch.Generator(options.device).manual_seed(0)
    folder.mkdir(parents=True)
    with CheckpointWriter(folder) as writer:
        for name, tensor in planned_architecture(config).tensors.items():
            weight = torch.empty(tensor.shape, device=options.device, dtype=dtype)
            writer.add(name, weight.fill_(1) if "norm" in name else weight.normal_(0, 0.02, generator=generator))
    write_config(folder, config)
    ids = torch.randint(shape["vocabulary"], (options.samples, options.length), generator=torch.Generator())
    write_tokens(folder / "tokens.safetensors", ids, {})


def hessians(base: Path, options: argparse.Namespace) -> None:
    """X·Xᵀ of the inputs of every linear layer, float32 [inputs, inputs], one layer's at a time."""
    ids = read_tokens(base / "tokens.safetensors")
    for layer in LayerStream(base, ids, Runtime(options.device, options.batch)):
        _products(layer)


def one_pass(base: Path, options: argparse.Namespace) -> None:
    """Every layer once over all tokens."""
    ids = read_tokens(base / "tokens.safetensors")
    for layer in LayerStream(base, ids, Runtime(options.device, options.batch)):
        for _ in layer.run():
            pass


def _products(layer: StreamedLayer) -> dict[str, torch.Tensor]:
    sums: dict[str, torch.Tensor] = {}

    def hook(name: str) -> Callable[..., None]:
        def add(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            tokens = inputs[0].flatten(0, 1).float()
            product = tokens.mT @ tokens
            sums[name] = sums[name] + product if name in sums else product

        return add

    handles = [layer.module.get_submodule(name).register_forward_pre_hook(hook(name)) for name in INPUTS]
    for _ in layer.run():
        pass
    for handle in handles:
        handle.remove()
    return sums


def measure(name: str, base: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Phases of one method, in this process: ``seconds``, ``memory_bytes`` and ``gpu_bytes`` of each."""
    # imports what a job imports before the clock starts and memory is counted
    model_class({"model_type": "llama"})
    if name == PASS:
        return {"pass": _timed(lambda: one_pass(base, options))}
    if name == HESSIANS:
        return {"statistics": _timed(lambda: hessians(base, options))}
    name, _, repair = name.partition("=")
    variant, tokens = resolve(name, {"repair": repair} if repair else {}), base / "tokens.safetensors"
    machine = {"device": options.device, "batch_size": options.batch}
    phases = {}
    with tempfile.TemporaryDirectory(dir=base.parent) as folder:
        output, scores = Path(folder), None
        if variant.score:
            score, scores = variant.score, output / "scores.json"
            phases["score"] = _timed(lambda: compute_scores(score, base, tokens, scores, **machine))
        phases["prune"] = _timed(lambda: prune(variant, base, output, scores=scores, calibration=tokens, **machine))
    return phases


def _timed(work: Callable[[], object]) -> dict[str, float]:
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    # "5" sets the high-water mark of resident memory back to what is resident now
    Path("/proc/self/clear_refs").write_text("5")
    before, start = _resident("VmRSS"), time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    gpu = torch.cuda.max_memory_allocated() if cuda else 0
    return {"seconds": seconds, "memory_bytes": _resident("VmHWM") - before, "gpu_bytes": gpu}


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--layers", type=int, nargs="+", help="depths to try; the shape's own by default")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), help=f"names as in config.yaml, or {HESSIANS}")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="bfloat16 on a GPU, else float32 by default")
    for name, default in {"samples": 16, "length": 128, "batch": 4}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, help="where models are built; a temporary folder by default")
    parser.add_argument("--output", type=Path, help="also write the numbers as JSON")
    parser.add_argument("--job", nargs=2, metavar=("VARIANT", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.dtype = options.dtype or ("float32" if options.device == "cpu" else "bfloat16")
    if options.job:
        name, base = options.job
        sys.stdout.write(json.dumps(measure(name, Path(base), options)))
        return
    results = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for layers in options.layers or [SHAPES[options.shape]["layers"]]:
            base = Path(folder) / f"{layers}-layers"
            start = time.perf_counter()
            build(base, layers, options)
            sys.stderr.write(f"{layers} layers built in {time.perf_counter() - start:.0f} s\n")
            size = sum(file.stat().st_size for file in base.glob("model*.safetensors"))
            for name in [PASS, *options.variants]:
                command = [sys.executable, __file__, *sys.argv[1:], "--job", name, str(base)]
                phases = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
                results += [
                    {"variant": name, "layers": layers, "model_bytes": size, "phase": phase, **numbers}
                    for phase, numbers in phases.items()
                ]
                sys.stderr.write(f"  {name}\n")
    sys.stdout.write(table(results) + "\n")
    if options.output:
        keys = ("shape", "dtype", "samples", "length", "batch", "device")
        settings = {key: getattr(options, key) for key in keys} | {"threads": torch.get_num_threads()}
        options.output.write_text(json.dumps({"settings": settings, "results": results}, indent=2) + "\n")


def table(results: list[dict[str, Any]]) -> str:
    passes = {one["layers"]: one["seconds"] for one in results if one["variant"] == PASS}
    rows = [
        [
            one["variant"],
            one["phase"],
            one["layers"],
            one["model_bytes"] / 2**20,
            one["seconds"],
            one["seconds"] / passes[one["layers"]],
            one["memory_bytes"] / 2**20,
            one["gpu_bytes"] / 2**20,
        ]
        for one in sorted(results, key=lambda one: (one["variant"], one["phase"], one["layers"]))
    ]
    headings = ["variant", "phase", "layers", "model MiB", "s", "passes", "memory MiB", "GPU MiB"]
    return tabulate(rows, headings, "pipe", floatfmt=("", "", "", ".0f", ".1f", ".1f", ".0f", ".0f"))


if __name__ == "__main__":
    main()

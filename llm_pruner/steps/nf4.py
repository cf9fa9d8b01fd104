"""``+nf4``: the linear weights of the blocks stored in 4 bits, by bitsandbytes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from llm_pruner.models.architecture import is_quantized, read_config
from llm_pruner.models.checkpoint import copy_companions, model_class, write_config
from llm_pruner.models.headers import bytes_on_disk
from llm_pruner.models.layout import HEAD, SHORTCUTS
from llm_pruner.models.shapes import check_base
from llm_pruner.steps.base import Step, StepInputs, StepOutcome
from llm_pruner.steps.records import StepRecord
from llm_pruner.system.errors import CheckpointError
from llm_pruner.system.files import read_json, staged_directory
from llm_pruner.system.options import Options
from llm_pruner.system.records import Pair

KEPT = (HEAD, *SHORTCUTS)
"""Linear layers of causal models outside attention and MLP, which are not quantised."""


class NF4Options(Options):
    """Options of storing a model in 4 bits; unknown keys are refused."""

    double_quant: bool = False
    """Quantise the scales of the blocks of 64 weights too, which saves 0.4 bits per weight."""
    compute_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Dtype of matrix products; ``auto`` is the dtype of the parent's weights."""


class NF4(Step):
    """Stores weights in fewer bits. The result cannot be trained or cut."""

    title = "Storage in 4 bits"
    Options = NF4Options
    terminal = True

    options: NF4Options

    def apply(self, inputs: StepInputs, output: Path) -> StepOutcome:
        sizes = {"bytes": quantize_model(inputs.parent, output, self.options).to_dict()}
        return StepOutcome(sizes, sizes)

    def describe(self, taken: StepRecord) -> str:
        assert taken.bytes
        return f"{taken.bytes.before:,} → {taken.bytes.after:,} bytes"


def quantize_model(parent: Path, output: Path, options: NF4Options) -> Pair[int]:
    """Store the linear layers of a causal model's blocks in NF4. Everything else stays unchanged.

    Args:
        parent: model folder of any kind this project writes.
        output: the new folder; it appears only when complete.

    Returns:
        Bytes on disk.

    Raises:
        CheckpointError: if the parent fails ``check_base``, or is stored in few bits already.
    """
    from llm_pruner.models.nf4 import nf4_config
    from llm_pruner.models.packed import load_packed

    config = read_config(parent)
    if is_quantized(config):
        raise CheckpointError(f"{parent}: stored in few bits already")
    check_base(parent)
    dtype = options.compute_dtype
    if dtype == "auto":
        dtype = config.get("dtype") or config.get("torch_dtype") or "float32"
    wanted = nf4_config(KEPT, double_quant=options.double_quant, dtype=dtype)
    model = load_packed(model_class(config), parent, wanted, dtype="auto")
    with staged_directory(output, inputs=[parent]) as folder:
        model.save_pretrained(folder)
        stored = read_json(folder / "config.json")["quantization_config"]
        write_config(folder, {**config, "quantization_config": stored})
        copy_companions(parent, folder)
    return Pair(before=bytes_on_disk(parent), after=bytes_on_disk(output))

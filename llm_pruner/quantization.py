"""NF4 through bitsandbytes: how a model is stored in 4 bits, loaded again, and trained for it.

NF4 is the 4-bit NormalFloat of Dettmers et al., QLoRA, 2023 (arXiv:2305.14314): blocks of 64 weights, one scale each.
Packed weights are bytes that hold two numbers, so sizes are told in bytes, never in elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from llm_pruner.models.architecture import check_finite, is_quantized, read_config
from llm_pruner.models.checkpoint import copy_companions, model_class, write_config
from llm_pruner.models.headers import bytes_on_disk
from llm_pruner.models.layout import HEAD, SHORTCUTS
from llm_pruner.system.errors import CheckpointError
from llm_pruner.system.files import read_json, staged_directory

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel

    from llm_pruner.steps import NF4Options

BLOCK = 64
"""Weights that share a scale."""
KEPT = (HEAD, *SHORTCUTS)
"""Linear layers of causal models that are no attention or MLP weights; they are not quantised."""


def nf4_config(skip: Sequence[str], *, double_quant: bool = False, dtype: str = "float32") -> BitsAndBytesConfig:
    """transformers' own description of NF4.

    Args:
        skip: modules that stay as they are, by name; a pattern matches from the start or at the end of a name.
        double_quant: quantise the scales of the blocks too.
        dtype: what products are computed in.
    """
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=double_quant,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=list(skip),
    )


def load_nf4(
    model_class: Any, folder: Path, config: BitsAndBytesConfig | None = None, *, device: str = "cpu", **kwargs: Any
) -> PreTrainedModel:
    """Load a folder with its linear layers in NF4, in evaluation mode.

    Args:
        model_class: the class of transformers, or one built like it, that runs the model.
        folder: ordinary weights with ``config``, which are quantised on the way in; or a folder saved in 4 bits,
            which says itself how.
    """
    if config is not None:
        kwargs["quantization_config"] = config
    model = model_class.from_pretrained(folder, device_map=device if device == "auto" else {"": device}, **kwargs)
    return keep_gradients(model).eval()


def quantize_model(parent: Path, output: Path, options: NF4Options) -> dict[str, int]:
    """Store a causal model with the linear layers of its blocks in NF4. What else there is stays as it is.

    Args:
        parent: model folder of any kind this project writes.
        output: the new folder; it appears only when complete.

    Returns:
        Bytes on disk ``before`` and ``after``.

    Raises:
        CheckpointError: if the parent cannot be read, or is quantised already.
    """
    check_finite(parent)
    config = read_config(parent)
    if is_quantized(config):
        raise CheckpointError(f"{parent}: stored in few bits already")
    dtype = options.compute_dtype
    if dtype == "auto":
        dtype = config.get("dtype") or config.get("torch_dtype") or "float32"
    wanted = nf4_config(KEPT, double_quant=options.double_quant, dtype=dtype)
    model = load_nf4(model_class(config), parent, wanted, dtype="auto")
    with staged_directory(output) as folder:
        model.save_pretrained(folder)
        stored = read_json(folder / "config.json")["quantization_config"]
        write_config(folder, {**config, "quantization_config": stored})
        copy_companions(parent, folder)
    return {"before": bytes_on_disk(parent), "after": bytes_on_disk(output)}


def keep_gradients(model: Any) -> Any:
    """Let NF4 layers go on giving gradients.

    On CPUs with avx512_bf16 bitsandbytes repacks them at the first forward pass in evaluation mode for a kernel that
    computes in bfloat16 and without autograd; what is trained after that gets wrong gradients, or none.
    """
    import bitsandbytes

    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
    return model


def fake_nf4(weight: torch.Tensor, *, double_quant: bool = False) -> torch.Tensor:
    """What NF4 makes of a weight: quantised and back, in its own dtype and shape."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(
        weight.detach().contiguous(), blocksize=BLOCK, quant_type="nf4", compress_statistics=double_quant
    )
    return dequantize_4bit(packed, state).to(weight.dtype)


def straight_through(weight: torch.Tensor, quantized: torch.Tensor) -> torch.Tensor:
    """``quantized`` going forward, the gradient of ``weight`` going back (Bengio et al., 2013, arXiv:1308.3432)."""
    return quantized.detach() + (weight - weight.detach())  # adds zeros, so that the value is exact


class FakeQuantize(nn.Module):
    """A parametrization: a linear layer computes with what quantising leaves of its weight, and trains the weight."""

    def __init__(self, quantize: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.quantize = quantize

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return straight_through(weight, self.quantize(weight.detach()))


def memory_bytes(model: nn.Module) -> int:
    """Bytes of a model's parameters and buffers, the scales of quantised ones included; shared ones count once."""
    tensors = {}
    for tensor in (*model.parameters(), *model.buffers()):
        state = getattr(tensor, "quant_state", None)
        own = [tensor, *(value for value in state.as_dict(packed=True).values())] if state is not None else [tensor]
        tensors.update({part.data_ptr(): part.numel() * part.element_size() for part in own})
    return sum(tensors.values())


def parameter_count(model: nn.Module) -> int:
    """Weights that a model computes with, however they are packed; shared ones count once."""
    counted: dict[int, int] = {}
    for module in model.modules():
        own = {name: parameter.numel() for name, parameter in module.named_parameters(recurse=False)}
        if isinstance(module, nn.Linear):
            own["weight"] = int(module.in_features) * int(module.out_features)
        counted.update({id(module._parameters.get(name, module)): count for name, count in own.items()})
    return sum(counted.values())

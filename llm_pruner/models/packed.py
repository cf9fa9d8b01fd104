"""Weights packed in few bits: how a model that has them is loaded, and what it holds.

Packed weights are bytes that hold several numbers, so sizes are told in bytes, never in elements.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel


def load_packed(
    model_class: Any, folder: Path, config: BitsAndBytesConfig | None = None, *, device: str = "cpu", **kwargs: Any
) -> PreTrainedModel:
    """Load a folder with its linear layers in few bits, in evaluation mode.

    Args:
        model_class: the class of transformers, or one built like it, that runs the model.
        folder: ordinary weights with ``config``, which are quantised on the way in; or a folder saved in few bits,
            which says itself how.
    """
    if config is not None:
        kwargs["quantization_config"] = config
    model = model_class.from_pretrained(folder, device_map=device if device == "auto" else {"": device}, **kwargs)
    return keep_gradients(model).eval()


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

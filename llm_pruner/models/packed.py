"""Models with weights packed in few bits: loading them, and counting their bytes and parameters.

Each byte of a packed weight holds several numbers, so sizes are counted in bytes, never in elements.
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
        model_class: the class that runs the model, of transformers or built like one.
        folder: ordinary weights, which are quantised by ``config`` while they are loaded; or a folder saved in few
            bits, with its own description.
    """
    if config is not None:
        kwargs["quantization_config"] = config
    model = model_class.from_pretrained(folder, device_map=device if device == "auto" else {"": device}, **kwargs)
    return keep_gradients(model).eval()


def keep_gradients(model: Any) -> Any:
    """Let NF4 layers keep giving gradients.

    On CPUs with avx512_bf16 bitsandbytes repacks such layers at the first forward pass in evaluation mode, for a kernel
    that computes in bfloat16 without autograd. A training after that would get wrong gradients, or none.
    """
    import bitsandbytes

    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
    return model


def memory_bytes(model: nn.Module) -> int:
    """Bytes of a model's parameters and buffers, including scales of quantised weights. Shared tensors count once."""
    tensors = {}
    for tensor in (*model.parameters(), *model.buffers()):
        state = getattr(tensor, "quant_state", None)
        own = [tensor, *(value for value in state.as_dict(packed=True).values())] if state is not None else [tensor]
        tensors.update({part.data_ptr(): part.numel() * part.element_size() for part in own})
    return sum(tensors.values())


def parameter_count(model: nn.Module) -> int:
    """Number of a model's weights, packed weights counted unpacked. Shared weights count once."""
    counted: dict[int, int] = {}
    for module in model.modules():
        own = {name: parameter.numel() for name, parameter in module.named_parameters(recurse=False)}
        if isinstance(module, nn.Linear):
            own["weight"] = int(module.in_features) * int(module.out_features)
        counted.update({id(module._parameters.get(name, module)): count for name, count in own.items()})
    return sum(counted.values())

"""Convert pickled weights, such as ``pruned_model.bin``, to a model folder without executing code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llm_pruner.models.architecture import read_config
from llm_pruner.models.checkpoint import CheckpointWriter, copy_companions, write_config
from llm_pruner.models.layout import HEAD
from llm_pruner.models.shapes import check_shapes
from llm_pruner.system.errors import CheckpointError
from llm_pruner.system.files import staged_directory

_RECOMPUTED = "rotary_emb.inv_freq"
"""A tensor of old state dicts, which models compute themselves."""


def convert_legacy(file: Path, config_folder: Path, output: Path) -> int:
    """Write a pickled state dict as a model folder.

    Args:
        file: the pickle; only its tensors are read.
        config_folder: folder with the config.json of the weights, and the tokenizer.
        output: the new folder; it appears only when complete.

    Returns:
        The number of tensors written.

    Raises:
        CheckpointError: if the file is damaged, holds anything but tensors, or holds other tensors than the
            configuration describes.
    """
    config = read_config(config_folder)
    weights = {name: tensor for name, tensor in _read(file).items() if not name.endswith(_RECOMPUTED)}
    if config.get("tie_word_embeddings"):
        weights.pop(f"{HEAD}.weight", None)
    check_shapes(config_folder, {name: tuple(tensor.shape) for name, tensor in weights.items()}, str(file))
    with staged_directory(output, inputs=[file, config_folder]) as folder, CheckpointWriter(folder) as writer:
        for name, tensor in weights.items():
            writer.add(name, tensor)
        write_config(folder, config)
        copy_companions(config_folder, folder)
    return len(weights)


def _read(file: Path) -> dict[str, Any]:
    import torch

    try:
        held = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # torch raises many kinds; none tells a reader what to do about the file
        raise CheckpointError(
            f"{file}: damaged, or holds more than tensors; reading that would execute code from the file, so it is "
            "not read"
        ) from None
    if not isinstance(held, dict) or not all(isinstance(value, torch.Tensor) for value in held.values()) or not held:
        raise CheckpointError(f"{file}: not a state dict, a mapping from names to tensors")
    return held

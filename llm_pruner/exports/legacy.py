"""Weights that were pickled, such as ``pruned_model.bin``, turned into a model folder without executing anything."""

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
"""Old state dicts hold it; models make it themselves."""


def convert_legacy(file: Path, config_folder: Path, output: Path) -> int:
    """Write a pickled state dict as a model folder.

    Args:
        file: the pickle; only tensors are read from it.
        config_folder: folder with the config.json that the weights belong to, and its tokenizer.
        output: the new folder; it appears only when complete.

    Returns:
        The number of tensors written.

    Raises:
        CheckpointError: for a file that holds anything but tensors, that is damaged, or whose tensors are not those
            of the configuration.
    """
    config = read_config(config_folder)
    weights = {name: tensor for name, tensor in _read(file).items() if not name.endswith(_RECOMPUTED)}
    if config.get("tie_word_embeddings"):
        weights.pop(f"{HEAD}.weight", None)
    check_shapes(config_folder, {name: tuple(tensor.shape) for name, tensor in weights.items()}, str(file))
    with staged_directory(output) as folder, CheckpointWriter(folder) as writer:
        for name, tensor in weights.items():
            writer.add(name, tensor)
        write_config(folder, config)
        copy_companions(config_folder, folder)
    return len(weights)


def _read(file: Path) -> dict[str, Any]:
    import torch

    try:
        held = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # of many kinds; none of them says anything about the file that a reader could act on
        raise CheckpointError(
            f"{file}: damaged, or holds more than tensors, which only executing code from the file could read; it is "
            "not read"
        ) from None
    if not isinstance(held, dict) or not all(isinstance(value, torch.Tensor) for value in held.values()) or not held:
        raise CheckpointError(f"{file}: not a state dict, which is tensors by name")
    return held

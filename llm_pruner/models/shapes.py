"""Checks of a model folder that need transformers, or read its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from llm_pruner.models.architecture import check_finite, check_tied, is_quantized, read_architecture, read_config
from llm_pruner.models.check import check_folder
from llm_pruner.models.checkpoint import model_class
from llm_pruner.models.config_file import CONFIG_FILE, WAY_OUT
from llm_pruner.models.foreign_json import shortened
from llm_pruner.models.headers import read_headers, weights_place
from llm_pruner.models.layout import HEAD
from llm_pruner.models.planned import compare_shapes
from llm_pruner.system.errors import CheckpointError


def expected_shapes(folder: Path) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """Shapes of the parameters that config.json describes, by name, and the names that a checkpoint may leave out.

    Raises:
        CheckpointError: if transformers makes no model of config.json.
    """
    import torch

    cls = model_class(read_config(folder))
    try:
        with torch.device("meta"):
            model = cls(cls.config_class.from_pretrained(folder))
    except Exception as error:  # the classes of transformers raise errors of all kinds for values they cannot take
        reason = shortened(f"{type(error).__name__}: {error}")
        raise CheckpointError(
            f"{folder / CONFIG_FILE}: transformers makes no model of it ({reason}); {WAY_OUT}"
        ) from error
    optional = {f"{HEAD}.weight"} if model.config.tie_word_embeddings else set()
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}, optional


def check_base(folder: Path) -> None:
    """Check a model folder as a whole: its form, its tensors by transformers' own model, and each weight, read once.

    Raises:
        CheckpointError: as ``check_folder``, ``check_stored``, ``check_finite`` and ``check_tied``.
    """
    check_form(folder)
    check_finite(folder)
    check_tied(folder)


def check_form(folder: Path) -> None:
    """Check all of a model folder that can be checked without reading weights.

    Raises:
        CheckpointError: as ``check_folder`` and ``check_stored``.
    """
    check_folder(folder)
    check_stored(folder)


def check_stored(folder: Path) -> None:
    """Raise CheckpointError unless the stored tensors are those of config.json and of the model of transformers.

    Reads only headers. Weights in few bits are not compared with transformers' model, since their tensors are packed.
    """
    read_architecture(folder)
    if not is_quantized(read_config(folder)):
        stored = {name: entry.shape for name, entry in read_headers(folder).items()}
        check_shapes(folder, stored, str(weights_place(folder)))


def check_shapes(folder: Path, stored: Mapping[str, tuple[int, ...]], place: str) -> None:
    """Raise CheckpointError unless the stored tensors match config.json in ``folder``."""
    expected, optional = expected_shapes(folder)
    compare_shapes(expected, stored, place, optional=optional)

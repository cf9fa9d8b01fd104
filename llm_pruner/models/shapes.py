"""Checks that the stored tensors match a model's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from llm_pruner.models.architecture import check_finite, is_quantized, read_config
from llm_pruner.models.checkpoint import model_class
from llm_pruner.models.headers import read_headers
from llm_pruner.models.layout import HEAD
from llm_pruner.system.errors import CheckpointError


def expected_shapes(folder: Path) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """Shapes of the parameters that config.json describes, by name, and the names that a checkpoint may leave out."""
    import torch

    cls = model_class(read_config(folder))
    with torch.device("meta"):
        model = cls(cls.config_class.from_pretrained(folder))
    optional = {f"{HEAD}.weight"} if model.config.tie_word_embeddings else set()
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}, optional


def check_base(folder: Path) -> None:
    """Raise CheckpointError unless every tensor of config.json is stored, in its shape and finite.

    Models in few bits are not checked, since their tensors are packed.
    """
    if not is_quantized(read_config(folder)):
        check_stored(folder)
        check_finite(folder)


def check_stored(folder: Path) -> None:
    """Raise CheckpointError unless every tensor of config.json is stored in its shape. Reads only headers."""
    if not is_quantized(read_config(folder)):
        check_shapes(folder, {name: entry.shape for name, entry in read_headers(folder).items()}, str(folder))


def check_shapes(folder: Path, stored: Mapping[str, tuple[int, ...]], place: str) -> None:
    """Raise CheckpointError unless the stored tensors match config.json in ``folder``."""
    expected, optional = expected_shapes(folder)
    problems = [f"lacks '{name}'" for name in expected if name not in stored and name not in optional]
    problems += [f"holds '{name}', which config.json does not describe" for name in stored if name not in expected]
    problems += [
        f"'{name}' is {list(shape)}, but config.json asks for {list(expected[name])}"
        for name, shape in stored.items()
        if name in expected and shape != expected[name]
    ]
    if problems:
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise CheckpointError(f"{place}: {problems[0]}{more}")

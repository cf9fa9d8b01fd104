"""Token files: samples as safetensors, drawn once, so that every run can be repeated on exactly the same tokens."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.system.errors import DataError
from llm_pruner.system.files import staged_file

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

KEY = "input_ids"


def read_tokens(path: str | os.PathLike[str]) -> torch.Tensor:
    """Token ids of a file: int64 [samples, length].

    Raises:
        DataError: if the file is missing or damaged, or holds something else.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).exists():
        raise DataError(f"{path}: no such token file")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise DataError(f"{path}: not a safetensors file, or truncated ({error})") from None
    if KEY not in tensors:
        raise DataError(f"{path}: has no '{KEY}' (found: {', '.join(tensors) or 'nothing'})")
    tokens = tensors[KEY]
    if tokens.dtype != torch.int64 or tokens.ndim != 2 or not tokens.numel():
        raise DataError(
            f"{path}: '{KEY}' must be int64 [samples, length] and not empty, not {tokens.dtype} {tuple(tokens.shape)}"
        )
    return tokens


def write_tokens(path: str | os.PathLike[str], tokens: torch.Tensor, facts: dict[str, Any]) -> None:
    """Write token ids, int64 [samples, length], with facts about their origin in the header."""
    from safetensors.torch import save_file

    with staged_file(path) as staged:
        save_file({KEY: tokens.contiguous()}, staged, metadata={"facts": json.dumps(facts, sort_keys=True)})


def read_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The facts about the tokens' origin; empty for a file made elsewhere."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as handle:
        return json.loads((handle.metadata() or {}).get("facts", "{}"))


def digest(tokens: torch.Tensor) -> str:
    """SHA-256 of token ids, independent of their file."""
    return hashlib.sha256(tokens.numpy().tobytes()).hexdigest()


def check_vocabulary(tokens: torch.Tensor, model: Path | PreTrainedModel, source: str) -> None:
    """Raise DataError if token ids do not fit the vocabulary of a model folder, or of a loaded model."""
    from llm_pruner.models.architecture import read_config

    size = read_config(model)["vocab_size"] if isinstance(model, Path) else model.config.vocab_size
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= size:
        raise DataError(
            f"{source}: token ids {low} … {high} do not fit a vocabulary of {size}; use this model's tokenizer"
        )


def read_tokens_of(path: str | os.PathLike[str], model: Path | PreTrainedModel) -> torch.Tensor:
    """Token ids of a file for a model folder, or for a loaded model: int64 [samples, length].

    Raises:
        DataError: as ``read_tokens``, or if the tokens are not those that the file says it was made of, or do not fit
            the model's vocabulary.
    """
    tokens, told = read_tokens(path), read_facts(path).get("sha256")
    if told not in (None, digest(tokens)):
        raise DataError(f"{path}: not the tokens that were drawn; delete it and run again to make it anew")
    check_vocabulary(tokens, model, str(path))
    return tokens

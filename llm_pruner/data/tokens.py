"""Token files: samples as safetensors, drawn once, so that every run can be repeated on exactly the same tokens."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_pruner.system.errors import DataError, shown
from llm_pruner.system.files import staged_file
from llm_pruner.system.paths import file_exists

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

KEY = "input_ids"
_FACTS: dict[str, tuple[type, ...]] = {
    "source": (str,),
    "split": (str,),
    "sha256": (str,),
    "length": (int,),
    "seed": (int,),
    "bytes_per_token": (int, float),
}
"""Types of the facts that jobs go by."""


def read_tokens(path: str | os.PathLike[str], vocabulary: int | None = None) -> torch.Tensor:
    """Token ids of a file: int64 [samples, length].

    Args:
        vocabulary: number of tokens of the model that will read them, if known.

    Raises:
        DataError: if the file is missing or damaged, holds something else, or has ids outside the vocabulary.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file_exists(os.fspath(path)):
        raise DataError(f"{path}: no such token file")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, KeyError) as error:  # KeyError: of a dtype that torch has not
        raise DataError(f"{path}: not a safetensors file, or truncated ({error})") from None
    if KEY not in tensors:
        raise DataError(f"{path}: has no '{KEY}' (found: {', '.join(tensors) or 'nothing'})")
    tokens = tensors[KEY]
    if tokens.dtype != torch.int64 or tokens.ndim != 2 or not tokens.numel():
        raise DataError(
            f"{path}: '{KEY}' must be int64 [samples, length] and not empty, not {tokens.dtype} {tuple(tokens.shape)}"
        )
    check_ids(tokens, vocabulary, str(path))
    return tokens


def write_tokens(path: str | os.PathLike[str], tokens: torch.Tensor, facts: dict[str, Any]) -> None:
    """Write token ids, int64 [samples, length], with facts about their origin in the header."""
    from safetensors.torch import save_file

    with staged_file(path) as staged:
        save_file({KEY: tokens.contiguous()}, staged, metadata={"facts": json.dumps(facts, sort_keys=True)})


def read_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The facts about the tokens' origin; empty for a file made elsewhere.

    Raises:
        DataError: if the file is damaged, or holds facts of another form.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as handle:
            facts = json.loads((handle.metadata() or {}).get("facts", "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a token file, or damaged ({error})") from None
    if not isinstance(facts, dict):
        raise DataError(f"{path}: its facts must be keys and values, not {shown(facts)}")
    for key, kinds in _FACTS.items():
        value = facts.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
            raise DataError(f"{path}: its fact '{key}' must not be {shown(value)}")
    if not 0 < (facts.get("bytes_per_token") or 1) < math.inf:
        raise DataError(f"{path}: its fact 'bytes_per_token' must not be {shown(facts['bytes_per_token'])}")
    return facts


def digest(tokens: torch.Tensor) -> str:
    """SHA-256 of token ids, independent of their file."""
    return hashlib.sha256(tokens.numpy().tobytes()).hexdigest()


def check_vocabulary(tokens: torch.Tensor, model: Path | PreTrainedModel, source: str) -> None:
    """Raise DataError if token ids do not fit the vocabulary of a model folder, or of a loaded model."""
    from llm_pruner.models.architecture import read_config

    check_ids(tokens, read_config(model)["vocab_size"] if isinstance(model, Path) else model.config.vocab_size, source)


def check_ids(tokens: torch.Tensor, vocabulary: int | None, source: str) -> None:
    """Raise DataError if token ids are negative, or do not fit a vocabulary of this size."""
    low, high = int(tokens.min()), int(tokens.max())
    if low >= 0 and (vocabulary is None or high < vocabulary):
        return
    sample, place = (int(each) for each in ((tokens < 0) | (tokens >= (vocabulary or high + 1))).nonzero()[0])
    size = "any vocabulary" if vocabulary is None else f"a vocabulary of {vocabulary}"
    raise DataError(
        f"{source}: token ids {low} … {high} do not fit {size} (the first is {int(tokens[sample, place])}, sample "
        f"{sample + 1}, token {place + 1}); use this model's tokenizer"
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

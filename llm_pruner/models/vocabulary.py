"""The vocabulary of a model folder's tokenizer, read from its file without any tokenizer library."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from llm_pruner.models.foreign_json import read_object, shown
from llm_pruner.models.headers import AGAIN
from llm_pruner.system.errors import CheckpointError

TOKENIZER_FILE, VOCABULARY_FILE = "tokenizer.json", "vocab.json"


def check_vocabulary_size(folder: Path, size: int) -> None:
    """Raise CheckpointError if the tokenizer gives text ids that the model has no embedding for.

    A folder without a tokenizer passes, and so do tokens that were added later, such as one for padding, since text
    does not give them. A vocabulary in another file than tokenizer.json or vocab.json is not looked at.

    Args:
        size: ``vocab_size`` of config.json.
    """
    largest = _largest_id(folder)
    if largest is not None and largest[1] >= size:
        path, number = largest
        raise CheckpointError(
            f"{path}: has token ids up to {number:,}, but config.json says vocab_size {size:,}; put the tokenizer of "
            "this model in the folder"
        )


def _largest_id(folder: Path) -> tuple[Path, int] | None:
    """The file of the tokenizer and the largest id of its own vocabulary."""
    path = folder / TOKENIZER_FILE
    if os.path.lexists(path):
        model = read_object(path, AGAIN, large=True).get("model")
        vocabulary = model.get("vocab") if isinstance(model, dict) else None
        place = "'model.vocab'"
    elif os.path.lexists(path := folder / VOCABULARY_FILE):
        vocabulary, place = read_object(path, AGAIN, large=True), "the vocabulary"
    else:
        return None
    if isinstance(vocabulary, list) and vocabulary:  # of a Unigram model: tokens in the order of their ids
        return path, len(vocabulary) - 1
    if not isinstance(vocabulary, dict) or not vocabulary or not all(map(_is_id, vocabulary.values())):
        raise CheckpointError(f"{path}: {place} is {shown(vocabulary)}, not ids by token; {AGAIN}")
    return path, max(vocabulary.values())


def _is_id(value: Any) -> bool:
    return type(value) is int and value >= 0

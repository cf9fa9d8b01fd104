"""Text of few words, and random tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from llm_pruner.data.tokens import write_tokens
from tests.tiny.families import VOCABULARY

WORDS = ["the", "of", "a", "is", "to", "and", "in", "that", *(f"w{index}" for index in range(80))]
"""Known to the tokenizer, from id 3 on."""


def word_tokenizer() -> Any:
    """One token a word or sign, most of them unknown; no special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<unk>": 0, **{word: 3 + i for i, word in enumerate(WORDS)}}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", model_max_length=16)


def random_tokens() -> torch.Tensor:
    """int64 [6, 20], longer than the sliding windows of the tiny families."""
    return torch.randint(3, VOCABULARY, (6, 20), generator=torch.Generator().manual_seed(1))


def write_random_tokens(folder: Path) -> Path:
    """Those tokens as a token file of this folder."""
    path = folder / "calibration.safetensors"
    write_tokens(path, random_tokens(), {})
    return path

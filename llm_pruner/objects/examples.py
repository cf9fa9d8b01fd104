"""Samples in memory from a named source, a file, or given texts; no token file is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llm_pruner.data.sampling import SampleSpec, cut_windows, draw_windows
from llm_pruner.data.sources import SOURCES, is_file, split_for
from llm_pruner.system.errors import DataError

if TYPE_CHECKING:
    import torch


def get_examples(
    dataset: str,
    tokenizer: Any,
    num_samples: int = 10,
    seq_len: int = 64,
    split: str | None = None,
    seed: int = 0,
) -> torch.Tensor:
    """Draw calibration samples without padding and without overlap, the same as a run with the same seed.

    A larger draw begins with the samples of a smaller draw.

    Args:
        dataset: ``builtin``, ``wikitext2``, ``c4``, ``ptb``, a ``.jsonl`` file with a ``text`` key on each line, a
            token file (``.safetensors``, used unchanged), or any other text file.
        tokenizer: encodes the text.
        num_samples: number of samples.
        seq_len: tokens in each sample.
        split: split of a named source; by default the calibration split.
        seed: seed of the draw.

    Returns:
        int64 [num_samples, seq_len].

    Raises:
        DataError: for an unknown source or split, the split that the source is evaluated on, or too little text.
    """
    if num_samples < 1 or seq_len < 1:
        raise DataError(f"num_samples and seq_len must be at least 1, not {num_samples} and {seq_len}")
    split = split_for(dataset, split, "calibration")
    if not is_file(dataset) and split == SOURCES[dataset].evaluation_split:
        others = " or ".join(f"'{other}'" for other in SOURCES[dataset].splits if other != split)
        raise DataError(f"{dataset}: results are measured on the split '{split}'; draw from {others}")
    return draw_windows(SampleSpec(dataset, split, num_samples, seq_len, seed), tokenizer)


def get_examples_from_text(texts: Sequence[str], tokenizer: Any, seq_len: int = 64) -> torch.Tensor:
    """Join texts with blank lines and cut the result into samples, without overlap.

    The samples have no padding, because padded positions would count as tokens in losses and means. The last tokens are
    dropped if they do not fill a sample.

    Args:
        texts: texts in order; a single string is one text.
        tokenizer: encodes the texts.
        seq_len: tokens in each sample.

    Returns:
        int64 [samples, seq_len].

    Raises:
        DataError: if the texts together are shorter than one sample.
    """
    import torch

    if seq_len < 1:
        raise DataError(f"seq_len must be at least 1, not {seq_len}")
    windows = cut_windows(tokenizer, [texts] if isinstance(texts, str) else texts, "\n\n", seq_len)
    if not windows:
        raise DataError(f"the texts are too short for one sample of {seq_len} tokens; give more or longer texts")
    return torch.tensor(windows, dtype=torch.int64)
